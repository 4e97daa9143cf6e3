//! Real kernel network stacks on TAP, one module per subject.
//!
//! These tests need root; see [`hairpin_tests::bed`].

// All of it is tests, helpers included: a failure there is the message.
#![allow(clippy::unwrap_used)]

/// Makes tests of functions that take [`hairpin_tests::bed::Workers`]: one of each with
/// one worker, and one with two.
macro_rules! with_one_and_two_workers {
    ($($function:ident)+) => {
        mod one_worker {
            $(#[test] fn $function() { super::$function(hairpin_tests::bed::Workers::One) })+
        }
        mod two_workers {
            $(#[test] fn $function() { super::$function(hairpin_tests::bed::Workers::Two) })+
        }
    };
}

mod bed;
mod bystanders;
mod cable;
mod carrier;
mod channels;
mod configuration;
mod cut_memory;
mod detection;
mod device_drops;
mod endurance;
mod evb;
mod events;
mod experiment;
mod generic;
mod ledgers;
mod live;
mod macvlan;
mod multichannel;
mod netdev;
mod openvswitch;
mod packet;
mod queues;
mod refusals;
mod segmentation;
mod site;
mod taking;
mod traces;
mod unfilled;
mod veb;
mod vepa;
mod xdp;
mod xdp_queues;
