//! The ring layouts the generator can present.
//!
//! virtio-user's own defaults are `mrg_rxbuf=1,in_order=1,packed_vq=0`, so every layout spells out
//! all of them: a bare `split` would silently be the in-order one.

/// A ring layout by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What `--layouts` and the table call it.
    pub name: &'static str,
    /// Device arguments of virtio-user.
    pub device: &'static str,
    /// EAL arguments it needs besides.
    pub eal: &'static [&'static str],
    /// How testpmd calls the receive path that this layout is meant to take.
    pub receive_path: &'static str,
}

/// Every layout, in the order of the table.
pub const LAYOUTS: [Layout; 6] = [
    Layout {
        name: "split",
        device: "packed_vq=0,mrg_rxbuf=1,in_order=0",
        eal: &[],
        receive_path: "mergeable buffer",
    },
    Layout {
        name: "split-nomrg",
        device: "packed_vq=0,mrg_rxbuf=0,in_order=0",
        eal: &[],
        receive_path: "standard",
    },
    Layout {
        name: "split-inorder",
        device: "packed_vq=0,mrg_rxbuf=1,in_order=1",
        eal: &[],
        receive_path: "inorder",
    },
    Layout {
        name: "packed",
        device: "packed_vq=1,mrg_rxbuf=1,in_order=0",
        eal: &[],
        receive_path: "packed ring mergeable buffer",
    },
    Layout {
        name: "packed-inorder",
        device: "packed_vq=1,mrg_rxbuf=0,in_order=1",
        eal: &[],
        receive_path: "packed ring standard",
    },
    Layout {
        name: "packed-vector",
        device: "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
        // The vector paths are AVX-512, which DPDK does not use unless allowed.
        eal: &["--force-max-simd-bitwidth=512"],
        receive_path: "packed ring vectorized",
    },
];
