//! vhost-user: so far the two directions of a queue pair, without the messages.

pub mod queue;
