//! Every lost frame has a name, and every frame is counted.
//!
//! Two equations hold for each device, at the end of every breath:
//!
//! * ingress: `rx_frames = decided + Σ dropped_in[reason]`
//! * egress: `offered = tx_frames + Σ dropped_out[reason]`
//!
//! and over all devices `Σ fan_out = Σ offered`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a reason is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// At the device the frame came from, before it was decided.
    Ingress,
    /// At the device it was to leave by: one count per copy.
    Egress,
}

macro_rules! drop_reasons {
    ($($side:ident $variant:ident $name:literal $meaning:literal $remedy:literal)+) => {
        /// Why a frame was lost. Names are stable: scripts rely on them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $meaning] $variant),+ }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The stable snake_case name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),+ }
            }

            /// What happened, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(DropReason::$variant => $meaning),+ }
            }

            /// What an operator can do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(DropReason::$variant => $remedy),+ }
            }

            /// Which side counts it.
            #[must_use]
            pub const fn side(self) -> Side {
                match self { $(DropReason::$variant => Side::$side),+ }
            }
        }
    };
}

drop_reasons! {
    Ingress Runt "runt" "The frame was shorter than an Ethernet header."
        "Look at the sender's driver."
    Ingress Giant "giant" "The frame's payload was larger than the MTU of its link."
        "Lower the sender's MTU or raise the link's `mtu`."
    Ingress TruncatedTag "truncated_tag" "The frame ended within a VLAN tag."
        "Look at the sender's driver."
    Ingress ReservedAddress "reserved_address" "The destination is a reserved group address (01-80-C2-00-00-0x), which bridges consume."
        "None needed; a `direct` port passes 00, 0B to 0D and 0F."
    Ingress SourceInvalid "source_invalid" "The source is a group address or all zeros."
        "Look at the sender: no station owns such an address."
    Ingress TagNotAllowed "tag_not_allowed" "A port sent an outer S-, E- or VN-tag, by which it would reach another channel."
        "Use a `direct` port in a tagged channel if the VM is to send its own S-tags."
    Ingress VlanInvalid "vlan_invalid" "The VLAN tag has the reserved VID 4095."
        "Correct the VLAN in the sender."
    Ingress VlanTagged "vlan_tagged" "An access port sent a tagged frame."
        "Make the port a trunk (`vlan = { trunk = [...] }`) or let the guest send untagged."
    Ingress VlanUntagged "vlan_untagged" "A trunk without `native` VLAN sent an untagged frame."
        "Set `native`, or tag in the guest."
    Ingress VlanNotMember "vlan_not_member" "A trunk sent a VLAN that it is not a member of."
        "Add the VLAN to the port's `trunk` list."
    Ingress OffloadInvalid "offload_invalid" "The offload header contradicts the frame."
        "Look at the guest's driver; it may be hostile."
    Ingress TooManySegments "too_many_segments" "The frame lay in more pieces than its port takes: 256, by AF_XDP 18."
        "Look at the guest's driver; it may be hostile."
    Ingress BadAddress "bad_address" "A descriptor pointed outside the guest's memory."
        "Look at the guest's driver; it may be hostile."
    Ingress QueueDisabled "queue_disabled" "The driver sent on a queue that it had not enabled."
        "None while a guest starts or changes its queues; else look at its driver."
    Ingress ReadError "read_error" "The device gave an error in the frame's place."
        "Look at the host's kernel log; a port of which every read fails is quarantined."
    Ingress SourceNotRegistered "source_not_registered" "The source is not among the port's `mac` addresses."
        "Add the address to the port's `mac` list, or leave `mac` out to learn."
    Ingress SourceRegisteredElsewhere "source_registered_elsewhere" "The source is registered on another port."
        "Two guests have one address, or one pretends: look at both."
    Ingress LearnLimit "learn_limit" "The source could not be learned: the port's `learn-limit` or the table is full."
        "Raise `learn-limit` (or `fdb.capacity`), or register addresses."
    Ingress OwnAddress "own_address" "The frame was addressed to its own sender."
        "None needed."
    Ingress OwnFrameReturned "own_frame_returned" "The adjacent bridge reflected a frame to the very port that sent it."
        "None needed: reflective relay returns group frames to everybody."
    Ingress LocalFrameReturned "local_frame_returned" "The adjacent bridge reflected a frame that `veb` ports had already exchanged."
        "None needed; a loop if there is no reflective relay on purpose."
    Ingress Private "private" "A `private` port and a local port tried to reach each other."
        "Use mode `vepa` or `veb` if they may."
    Ingress UnknownUnicast "unknown_unicast" "Nobody here has the destination, and no port takes unknown addresses."
        "Register the address, or leave `mac` out so that it is learned."
    Ingress NoReceiver "no_receiver" "A group frame for a VLAN in which nobody else is up."
        "None needed."
    Ingress NoUplink "no_uplink" "The frame could only leave by the uplink, but the link has no device."
        "Give the link a `device`, or use mode `veb` in a host-local network."
    Ingress UnknownSvid "unknown_svid" "The S-tag names no channel of this link."
        "Configure a channel with this S-VID, or correct the far end."
    Ingress ChannelUnused "channel_unused" "The channel has neither ports nor a bridge."
        "Add a port, or make the channel a bridge's member."
    Ingress ReflectionOff "reflection_off" "The destination is behind the member it came from, and reflective relay is off."
        "Set `reflective-relay = \"on\"` if the far end is a VEPA."
    Ingress FromMonitor "from_monitor" "The port is a mirror's: it gets copies, and nothing it sends goes anywhere."
        "None needed; have what watches send by another port."
    Ingress PortFault "port_fault" "Serving the frame's port failed; the port was quarantined."
        "Read the log; `hairpin port release` has the port served again."
    Egress SenderFault "sender_fault" "The switch failed while it served the frame's sender, or the sender's memory was cut short, before this copy was delivered."
        "See `hairpin port show` of the sender, and the log; `hairpin port release` has it served again."
    Egress ReceiverFault "receiver_fault" "The switch failed while it wrote this copy to the egress device, which was quarantined."
        "Read the log; `hairpin port release` has the port served again."
    Egress PortDown "port_down" "The egress device was down."
        "Bring the port up, or wait for its device."
    Egress RxRingFull "rx_ring_full" "The receiver had no free buffer."
        "The receiver is too slow, or its ring too small."
    Egress MtuExceeded "mtu_exceeded" "The frame was larger than the egress link's MTU, or with its tags than the egress device takes."
        "Give both links one MTU, and a link's device room for tags: `hairpin link show` says where there is none."
    Egress FloodBudget "flood_budget" "More copies of group frames were due in one breath than the switch makes."
        "Look for a broadcast storm; see which port sends."
    Egress MirrorBudget "mirror_budget" "More mirrored copies of one batch were due than the switch makes."
        "Mirror fewer ports, or only what is received."
    Egress ReflectedGroupRate "reflected_group_rate" "More group frames were to be reflected than the member's limit."
        "Look for a storm or a loop at the far end; else raise `reflected-group-rate`."
    Egress OffloadHeaderTooDeep "offload_header_too_deep" "Software had to touch headers beyond the first 128 bytes."
        "Enable offloads at the receiver, or send fewer nested headers."
    Egress DeviceError "device_error" "The egress device refused the frame."
        "Read the port's last error in `hairpin port show`."
    Egress TransmitBusy "transmit_busy" "Another worker held the egress ring too long."
        "Use a multiqueue device, one queue per worker."
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = DropReason::ALL.len();

    /// The reason with this stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<DropReason> {
        DropReason::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A counter that one worker writes and anybody reads: no read-modify-write.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. Only the owning worker may call this; another's call would lose counts.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The count so far.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counted at one device.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters {
    /// Frames from the device into the switch.
    pub rx_frames: Count,
    /// Their bytes, without offload headers.
    pub rx_bytes: Count,
    /// Frames accepted by the device.
    pub tx_frames: Count,
    /// Their bytes, as they left (tags added or removed).
    pub tx_bytes: Count,
    /// Received frames that some egress was decided for.
    pub decided: Count,
    /// Copies that were decided for frames received here.
    pub fan_out: Count,
    /// Copies brought to this device.
    pub offered: Count,
    /// Frames that software cut or completed for this device, and what became of
    /// them there: segments made.
    pub segments: Count,
    drops: [Count; DropReason::COUNT],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            rx_frames: Count::default(),
            rx_bytes: Count::default(),
            tx_frames: Count::default(),
            tx_bytes: Count::default(),
            decided: Count::default(),
            fan_out: Count::default(),
            offered: Count::default(),
            segments: Count::default(),
            drops: std::array::from_fn(|_| Count::default()),
        }
    }
}

impl Counters {
    /// Counts lost frames.
    #[inline]
    pub fn drop_frames(&self, reason: DropReason, count: u64) {
        self.drops[reason as usize].add(count);
    }

    /// Adds these counters to a total.
    pub fn add_to(&self, total: &mut Totals) {
        total.rx_frames += self.rx_frames.get();
        total.rx_bytes += self.rx_bytes.get();
        total.tx_frames += self.tx_frames.get();
        total.tx_bytes += self.tx_bytes.get();
        total.decided += self.decided.get();
        total.fan_out += self.fan_out.get();
        total.offered += self.offered.get();
        total.segments += self.segments.get();
        for (sum, count) in total.drops.iter_mut().zip(&self.drops) {
            *sum += count.get();
        }
    }
}

/// Counters summed over workers, at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Totals {
    /// See [`Counters::rx_frames`].
    pub rx_frames: u64,
    /// See [`Counters::rx_bytes`].
    pub rx_bytes: u64,
    /// See [`Counters::tx_frames`].
    pub tx_frames: u64,
    /// See [`Counters::tx_bytes`].
    pub tx_bytes: u64,
    /// See [`Counters::decided`].
    pub decided: u64,
    /// See [`Counters::fan_out`].
    pub fan_out: u64,
    /// See [`Counters::offered`].
    pub offered: u64,
    /// See [`Counters::segments`].
    pub segments: u64,
    drops: [u64; DropReason::COUNT],
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            rx_frames: 0,
            rx_bytes: 0,
            tx_frames: 0,
            tx_bytes: 0,
            decided: 0,
            fan_out: 0,
            offered: 0,
            segments: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Totals {
    /// Frames lost for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// The reasons that occurred, with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.dropped(reason)))
            .filter(|&(_, count)| count > 0)
    }

    /// Frames lost on one side.
    #[must_use]
    pub fn dropped_on(&self, side: Side) -> u64 {
        self.drops().filter(|(reason, _)| reason.side() == side).map(|(_, count)| count).sum()
    }

    /// Whether both equations of this module hold.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.rx_frames == self.decided + self.dropped_on(Side::Ingress)
            && self.offered == self.tx_frames + self.dropped_on(Side::Egress)
    }
}
