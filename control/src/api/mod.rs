//! The API: gRPC over a UNIX socket, in front of a [`crate::switch::Switch`].
//!
//! * [`listen`] — the socket: made, guarded, removed.
//! * [`connections`] — who is connected, and how many may be.
//! * [`peer`] — who is calling, and what they may; [`by_right`] — what that leaves of messages.
//! * [`turns`] — when a call is worked on. [`service`] — the calls; [`mod@apply`] — those that
//!   change the desired state.
//! * [`views`], [`vhost_user`] — what there is, as messages. [`configs`] — what is wanted, as
//!   messages, and [`wanted`] from them. [`refusal`] — why not.
//! * [`capture`] — the call that goes on: frames as they pass.
//! * [`why`] — what would become of a frame.
//! * [`watch`] — streams of events and counters.
//! * [`address`] — where the socket is.

pub mod address;
pub mod apply;
pub mod by_right;
pub mod capture;
pub mod configs;
pub mod connections;
pub mod listen;
pub mod peer;
pub mod refusal;
pub mod service;
pub mod turns;
pub mod vhost_user;
pub mod views;
pub mod wanted;
pub mod watch;
pub mod why;
