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
        bytes += sentence.len();
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

fn shortened(text: &str) -> String {
    if text.len() <= ERROR_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=ERROR_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A change that was not made.
#[must_use]
pub fn refusal(error: ApplyError) -> Status {
    let said = error.to_string();
    match error {
        ApplyError::Invalid(errors) => of_fields(Code::FailedPrecondition, &errors),
        ApplyError::Superseded { .. } => Status::aborted(said),
        ApplyError::NoSuchPort { .. }
        | ApplyError::NoSuchObject { .. }
        | ApplyError::NoSuchRevision { .. } => Status::not_found(said),
        ApplyError::Exists { .. } => Status::already_exists(said),
        ApplyError::Exhausted { .. } => Status::resource_exhausted(said),
        ApplyError::Record(_) | ApplyError::Compile(_) => Status::internal(said),
        ApplyError::Device { .. } | ApplyError::Mtu { .. } | ApplyError::Restart { .. } => {
            Status::failed_precondition(said)
        }
    }
}

/// A queue that was not moved.
#[must_use]
pub fn not_moved(error: MoveError) -> Status {
    let said = error.to_string();
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
