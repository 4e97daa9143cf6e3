//! What a host's cable leaves to others: checksums, and cutting into segments.

use hairpin_tests::bed::Namespace;

use crate::error::{Context, Result, RigError};

/// What `ethtool -K` calls a feature, and `ethtool -k` after it; what others need comes first.
const FEATURES: [[&str; 2]; 5] = [
    ["tx", "tx-checksumming"],
    ["rx", "rx-checksumming"],
    ["tso", "tcp-segmentation-offload"],
    ["gso", "generic-segmentation-offload"],
    ["gro", "generic-receive-offload"],
];

/// Whether it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offloads {
    /// Frames of up to 64 KiB pass, with checksums that nobody has computed.
    On,
    /// Frames are as they would be on a wire.
    Off,
}

impl Offloads {
    fn word(self) -> &'static str {
        match self {
            Offloads::On => "on",
            Offloads::Off => "off",
        }
    }

    /// Sets one end of a cable.
    ///
    /// # Errors
    /// Without ethtool, or if the interface does not take it.
    pub fn set(self, namespace: &Namespace, interface: &str) -> Result<()> {
        let features = FEATURES.map(|[name, _]| format!("{name} {}", self.word())).join(" ");
        let run = |line: &str| namespace.run(line).context("offloads");
        run(&format!("ethtool -K {interface} {features}"))?;
        match self.refused(&run(&format!("ethtool -k {interface}"))?) {
            None => Ok(()),
            Some(feature) => {
                let (word, feature) = (self.word(), feature);
                Err(RigError::new(format!("{interface} does not set {feature} to {word}")))
            }
        }
    }

    /// The first feature that is not so, by what `ethtool -k` shows.
    fn refused(self, shown: &str) -> Option<&'static str> {
        let is_so = |title: &str| {
            let mut lines = shown.lines().filter_map(|line| line.trim().split_once(": "));
            lines.any(|(name, state)| name == title && state.split(' ').next() == Some(self.word()))
        };
        FEATURES.into_iter().map(|[_, title]| title).find(|title| !is_so(title))
    }
}

#[cfg(test)]
mod tests {
    use hairpin_tests::bed;

    use super::*;

    #[test]
    fn what_an_interface_keeps_is_named() {
        let shown = |tso: &str| {
            format!(
                "Features for far0:\nrx-checksumming: on\ntx-checksumming: on\n\
                 \ttx-checksum-ipv4: off [fixed]\ntcp-segmentation-offload: {tso}\n\
                 generic-segmentation-offload: on\ngeneric-receive-offload: on\n"
            )
        };
        assert_eq!(Offloads::On.refused(&shown("on")), None);
        let kept = Offloads::On.refused(&shown("off [requested on]"));
        assert_eq!(kept, Some("tcp-segmentation-offload"));
        assert_eq!(Offloads::Off.refused(&shown("off")), Some("tx-checksumming"));
        assert_eq!(Offloads::On.refused(""), Some("tx-checksumming"));
    }

    #[test]
    fn a_veth_pair_takes_either() {
        let Some(_root) = bed::root() else { return };
        let namespace = Namespace::new().unwrap();
        namespace.ip("link add near type veth peer name far").unwrap();
        for offloads in [Offloads::Off, Offloads::Off, Offloads::On] {
            offloads.set(&namespace, "far").unwrap();
        }
        assert!(Offloads::On.set(&namespace, "lo0").is_err());
    }
}
