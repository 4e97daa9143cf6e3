//! The rows of the forwarding table, as people read them.

use super::{Destination, Source};
use crate::snapshot::{Mode, Role};

macro_rules! rules {
    ($($variant:ident $name:literal $words:literal)+) => {
        /// Which row of the forwarding table a frame comes under. Names are stable.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Rule { $(#[doc = $words] $variant),+ }

        impl Rule {
            /// Every row.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant),+];

            /// Its stable snake_case name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Rule::$variant => $name),+ }
            }

            /// What it says, in a sentence.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Rule::$variant => $words),+ }
            }
        }
    };
}

rules! {
    VebUnicast "veb_unicast"
        "From a `veb` port, unicast to a local address: to a `veb` port's there only, to another's by the uplink only, to its sender's own nowhere."
    VebGroup "veb_group"
        "From a `veb` port, a group frame: to the other `veb` ports and the uplink."
    VebUnknown "veb_unknown"
        "From a `veb` port, unicast that nobody here owns: to the uplink and the `veb` ports without registered addresses."
    Vepa "vepa"
        "From a `vepa` or `private` port: to the uplink, always and only, and to its sender's own address nowhere."
    DirectOut "direct_out"
        "From a `direct` port: to the uplink."
    DirectIn "direct_in"
        "From the uplink of a `direct` port's channel: to that port."
    UplinkUnicast "uplink_unicast"
        "From the uplink, unicast to a local address: to that port, unless it owns the source itself, or the source is local and either side is `private` or both are `veb`."
    UplinkGroupForeign "uplink_group_foreign"
        "From the uplink, a group frame of a foreign source: to all ports of the VLAN."
    UplinkGroupVeb "uplink_group_veb"
        "From the uplink, a group frame of a local `veb` port: to `vepa` ports only; the `veb` ports had it."
    UplinkGroupVepa "uplink_group_vepa"
        "From the uplink, a group frame of a local `vepa` port: to the `veb` and `vepa` ports but that one."
    UplinkGroupPrivate "uplink_group_private"
        "From the uplink, a group frame of a local `private` port: to nobody."
    UplinkUnknownForeign "uplink_unknown_foreign"
        "From the uplink, unicast that nobody here owns, of a foreign source: to all ports of the VLAN without registered addresses."
    UplinkUnknownVeb "uplink_unknown_veb"
        "From the uplink, unicast that nobody here owns, of a local `veb` port: to `vepa` ports without registered addresses only."
    UplinkUnknownVepa "uplink_unknown_vepa"
        "From the uplink, unicast that nobody here owns, of a local `vepa` port: to the `veb` and `vepa` ports without registered addresses but that one."
    UplinkUnknownPrivate "uplink_unknown_private"
        "From the uplink, unicast that nobody here owns, of a local `private` port: to nobody."
    BridgeUnicast "bridge_unicast"
        "On a bridge, unicast to an address that a member has: to that member; back to where it came from only by a channel with reflective relay."
    BridgeGroup "bridge_group"
        "On a bridge, a group frame: to all other members of the VLAN, and back into its channel with reflective relay."
    BridgeUnknown "bridge_unknown"
        "On a bridge, unicast that no member has: to all other members of the VLAN without registered addresses, and back into its channel with reflective relay."
}

impl Rule {
    /// The row of a frame that came in by a relay port of this role.
    pub(super) fn of(ingress: Role, source: Source, destination: Destination) -> Rule {
        match (ingress, destination) {
            (Role::Station(Mode::Direct), _) => Rule::DirectOut,
            (Role::DirectUplink(_), _) => Rule::DirectIn,
            (Role::Station(Mode::Veb), Destination::Owned(..)) => Rule::VebUnicast,
            (Role::Station(Mode::Veb), Destination::Group) => Rule::VebGroup,
            (Role::Station(Mode::Veb), Destination::Unknown) => Rule::VebUnknown,
            (Role::Station(Mode::Vepa | Mode::Private), _) => Rule::Vepa,
            (Role::Uplink, Destination::Owned(..)) => Rule::UplinkUnicast,
            (Role::Uplink, Destination::Group) => match source {
                Source::Foreign | Source::Local(_, Mode::Direct) => Rule::UplinkGroupForeign,
                Source::Local(_, Mode::Veb) => Rule::UplinkGroupVeb,
                Source::Local(_, Mode::Vepa) => Rule::UplinkGroupVepa,
                Source::Local(_, Mode::Private) => Rule::UplinkGroupPrivate,
            },
            (Role::Uplink, Destination::Unknown) => match source {
                Source::Foreign | Source::Local(_, Mode::Direct) => Rule::UplinkUnknownForeign,
                Source::Local(_, Mode::Veb) => Rule::UplinkUnknownVeb,
                Source::Local(_, Mode::Vepa) => Rule::UplinkUnknownVepa,
                Source::Local(_, Mode::Private) => Rule::UplinkUnknownPrivate,
            },
            (Role::BridgePort | Role::BridgeChannel(_), Destination::Owned(..)) => {
                Rule::BridgeUnicast
            }
            (Role::BridgePort | Role::BridgeChannel(_), Destination::Group) => Rule::BridgeGroup,
            (Role::BridgePort | Role::BridgeChannel(_), Destination::Unknown) => {
                Rule::BridgeUnknown
            }
        }
    }
}
