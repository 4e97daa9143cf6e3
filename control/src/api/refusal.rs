//! What is refused, as a gRPC status: a code, a sentence for people, and for programs which
//! fields are wrong.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::config::ConfigErrors;
use crate::switch::ApplyError;
use crate::switch::queues::MoveError;

/// Bytes of errors that one status names. They travel in a header, twice, in base64 and with
/// some characters escaped, and 8 KiB is what clients take of headers (gRPC over HTTP/2).
const BYTES_MAX: usize = 1500;
/// Bytes of one error, likewise.
const ERROR_BYTES_MAX: usize = 500;

/// Fields out of their range.
#[must_use]
pub fn invalid(errors: &ConfigErrors) -> Status {
    of_fields(Code::InvalidArgument, errors)
}

fn of_fields(code: Code, errors: &ConfigErrors) -> Status {
    let (mut said, mut violations) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for error in errors.errors() {
        let sentence = shortened(&error.to_string());
        // As the header has them: what is not plain is escaped, in three bytes for one.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
        bytes += sentence.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum::<usize>();
        if bytes > BYTES_MAX {
            break;
        }
        said.push(sentence);
        let colon = if error.field.is_empty() { "" } else { ": " };
        let field = format!("{}{colon}{}", error.object, error.field);
        let description = format!("{}; {}", error.problem, error.remedy);
        violations.push(FieldViolation::new(shortened(&field), shortened(&description)));
    }
    let more = errors.errors().len() - said.len();
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    let details = ErrorDetails::with_bad_request(violations);
    Status::with_error_details(code, said.join("\n"), details)
}

/// A text of a client's, cut to what a header has room for.
#[must_use]
pub fn shortened(text: &str) -> String {
    cut(text, ERROR_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// One thing that stands against a desired state.
fn of_field(code: Code, said: String, object: &str, field: &str) -> Status {
    let violation = FieldViolation::new(format!("{object}: {field}"), shortened(&said));
    Status::with_error_details(code, said, ErrorDetails::with_bad_request(vec![violation]))
}

/// What an error says, cut to what a header has room for: it may name what a client sent.
#[must_use]
pub fn said(error: &dyn std::error::Error) -> String {
    const BYTES_MAX: usize = 2000;
    cut(&error.to_string(), BYTES_MAX)
}

/// A change that was not made.
#[must_use]
pub fn refusal(error: ApplyError) -> Status {
    let said = said(&error);
    match error {
        ApplyError::Invalid(errors) => of_fields(Code::FailedPrecondition, &errors),
        ApplyError::Superseded { .. } => Status::aborted(said),
        ApplyError::NoSuchPort { .. }
        | ApplyError::NoSuchObject { .. }
        | ApplyError::NoSuchRevision { .. } => Status::not_found(said),
        ApplyError::Exists { object, .. } => of_field(Code::AlreadyExists, said, &object, "name"),
        ApplyError::Exhausted { .. } => Status::resource_exhausted(said),
        ApplyError::Record(_) | ApplyError::Compile(_) => Status::internal(said),
        ApplyError::Device { object, .. } => {
            of_field(Code::FailedPrecondition, said, &object, "device")
        }
        ApplyError::Mtu { object, .. } => of_field(Code::FailedPrecondition, said, &object, "mtu"),
        ApplyError::Restart { field } => of_field(Code::FailedPrecondition, said, "switch", field),
    }
}

/// A queue that was not moved.
#[must_use]
pub fn not_moved(error: MoveError) -> Status {
    let said = said(&error);
    match error {
        MoveError::NoSuchPort { .. }
        | MoveError::NoSuchQueue { .. }
        | MoveError::NoSuchWorker { .. } => Status::not_found(said),
        MoveError::WhichQueue { .. } => Status::invalid_argument(said),
        MoveError::NotBreathing { .. }
        | MoveError::Waiting { .. }
        | MoveError::Quarantined { .. } => Status::failed_precondition(said),
        MoveError::Pending { .. } => Status::deadline_exceeded(said),
        MoveError::Overtaken { .. } => Status::aborted(said),
    }
}
