//! The API of a running switch: the types of `hairpin/v1/*.proto`, which is
//! where they are documented, and the tonic client and server over them.

/// Version 1: package `hairpin.v1`.
pub mod v1 {
    #![allow(missing_docs, unused_qualifications, clippy::all, clippy::too_many_lines)]
    tonic::include_proto!("hairpin.v1");
}

/// The definition itself, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("hairpin.v1");
