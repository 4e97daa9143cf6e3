//! The ingress checklist: the first check that fails names the drop.
//!
//! Heads up: the order of the checks is ARCHITECTURE.md's, "Forwarding, made
//! exact", and part of what operators see.

use super::{Admitted, Customer, Frame, Service, Tags};
use crate::ledger::DropReason;
use crate::snapshot::{Addresses, Channels, Device, PortId, RelayPort, Role, Snapshot, VlanPolicy};
use crate::wire::ethernet::{
    self, ADDRESSES_BYTES, HEADER_BYTES, Outer, TAG_BYTES, TPID_C, TPID_E, TPID_S, TPID_VN,
};
use crate::wire::offload::Segmentation;
use crate::wire::{self, Mac, SVid, Tci, Vid};

/// Registered addresses up to which comparing each beats a search.
const ADDRESSES_SCANNED_MAX: usize = 8;

/// A frame from a VM's port that is switched.
///
/// # Errors
/// The first check that failed. Learning comes later, in frame order.
#[inline(always)]
pub fn from_vm(id: PortId, port: &RelayPort, frame: &Frame<'_>) -> Result<Admitted, DropReason> {
    size(port.mtu, frame)?;
    let (destination, source) = ethernet::addresses(frame.header);
    if destination.reserved().is_some() {
        return Err(DropReason::ReservedAddress);
    }
    if !source.is_station() {
        return Err(DropReason::SourceInvalid);
    }
    let customer = vm_tag(frame.header)?;
    let vid = classify(&port.vlan, customer)?;
    offload(port.mtu, frame)?;
    if !may_send(&port.addresses, source) {
        return Err(DropReason::SourceNotRegistered);
    }
    let tags = Tags { service: Service::Absent, customer };
    Ok(Admitted { ingress: id, domain: port.domain, destination, source, vid, tags })
}

/// A frame from a `direct` port of the channel with this S-VID, or of an untagged
/// one: only there it could reach another channel by its own tags.
///
/// # Errors
/// The first check that failed.
#[inline(never)]
pub fn from_direct(
    id: PortId,
    port: &RelayPort,
    svid: Option<SVid>,
    frame: &Frame<'_>,
) -> Result<Admitted, DropReason> {
    size(port.mtu, frame)?;
    let (destination, source) = ethernet::addresses(frame.header);
    if destination.reserved().is_some_and(is_service_reserved) {
        return Err(DropReason::ReservedAddress);
    }
    if svid.is_none() {
        vm_outer_tag(frame.header)?;
    }
    offload(port.mtu, frame)?;
    let tags = Tags { service: Service::Absent, customer: opaque(frame.header, 0) };
    Ok(Admitted { ingress: id, domain: port.domain, destination, source, vid: Vid::UNTAGGED, tags })
}

/// A frame from a link: its S-tag names the relay port it comes in by.
///
/// # Errors
/// The first check that failed.
#[inline(never)]
pub fn from_link(
    snapshot: &Snapshot,
    device: &Device,
    channels: &Channels,
    frame: &Frame<'_>,
) -> Result<Admitted, DropReason> {
    size(device.mtu, frame)?;
    let (service, ingress) = demultiplex(channels, frame.header)?;
    let port = snapshot.port(ingress).ok_or(DropReason::ChannelUnused)?;
    let (destination, source) = ethernet::addresses(frame.header);
    let behind = service_bytes(service);
    let (vid, customer) = match port.role {
        Role::DirectUplink(_) if destination.reserved().is_some_and(is_service_reserved) => {
            return Err(DropReason::ReservedAddress);
        }
        Role::DirectUplink(_) => (Vid::UNTAGGED, opaque(frame.header, behind)),
        _ => link_tag(frame.header, behind, destination, source)?,
    };
    offload(device.mtu, frame)?;
    let tags = Tags { service, customer };
    Ok(Admitted { ingress, domain: port.domain, destination, source, vid, tags })
}

/// The checks behind the S-tag in a channel that is not `direct`.
#[inline]
pub(super) fn link_tag(
    header: &[u8],
    behind: usize,
    destination: Mac,
    source: Mac,
) -> Result<(Vid, Customer), DropReason> {
    if destination.reserved().is_some() {
        return Err(DropReason::ReservedAddress);
    }
    if !source.is_station() {
        return Err(DropReason::SourceInvalid);
    }
    let customer = match ethernet::word(header, ADDRESSES_BYTES + behind) {
        Some(TPID_C) => customer_tag(header, behind)?,
        _ => Customer::Untagged,
    };
    Ok((tagged_vid(customer), customer))
}

/// Neither shorter than its header nor longer than the MTU allows.
#[inline]
fn size(mtu: u32, frame: &Frame<'_>) -> Result<(), DropReason> {
    if frame.length < HEADER_BYTES || frame.header.len() < HEADER_BYTES {
        return Err(DropReason::Runt);
    }
    if !is_within(mtu, frame) && frame.offload.segmentation == Segmentation::None {
        return Err(DropReason::Giant);
    }
    Ok(())
}

/// Whether the payload is within an MTU: what is behind the addresses, the C- and
/// S-tags at the head (two at most) and the EtherType.
#[inline]
pub(super) fn is_within(mtu: u32, frame: &Frame<'_>) -> bool {
    let payload_max = frame.length.saturating_sub(HEADER_BYTES);
    payload_max <= mtu as usize || is_within_behind_tags(mtu, frame.header, frame.length)
}

// By parts: a frame that a pointer goes to would have to be put into memory first.
#[cold]
fn is_within_behind_tags(mtu: u32, header: &[u8], length: usize) -> bool {
    let is_tag = |&tag: &usize| {
        let tpid = ethernet::word(header, ADDRESSES_BYTES + tag * TAG_BYTES);
        matches!(tpid, Some(TPID_C | TPID_S))
    };
    let tags = (0..2).take_while(is_tag).count();
    length.saturating_sub(HEADER_BYTES + tags * TAG_BYTES) <= mtu as usize
}

/// What a VM's port may send as outermost tag, by its TPID.
#[inline]
fn vm_outer_tag(header: &[u8]) -> Result<Option<u16>, DropReason> {
    match ethernet::word(header, ADDRESSES_BYTES) {
        // IPv4 and ARP, in one comparison.
        untagged @ Some(..TPID_C) => Ok(untagged),
        Some(TPID_S | TPID_E | TPID_VN) => Err(DropReason::TagNotAllowed),
        tpid => Ok(tpid),
    }
}

#[inline]
pub(super) fn vm_tag(header: &[u8]) -> Result<Customer, DropReason> {
    match vm_outer_tag(header)? {
        Some(TPID_C) => customer_tag(header, 0),
        _ => Ok(Customer::Untagged),
    }
}

/// The C-tag `behind` bytes behind the addresses.
#[inline]
fn customer_tag(header: &[u8], behind: usize) -> Result<Customer, DropReason> {
    let Outer::C(tci) = ethernet::outer(header, ADDRESSES_BYTES + behind) else {
        return Err(DropReason::TruncatedTag);
    };
    match tci.vid_bits() {
        0 => Ok(Customer::Priority(tci)),
        bits => Vid::new(bits).map(|_| Customer::Tagged(tci)).ok_or(DropReason::VlanInvalid),
    }
}

/// The VID of the tag, or 0.
#[inline]
fn tagged_vid(customer: Customer) -> Vid {
    match customer {
        Customer::Tagged(tci) => Vid::new(tci.vid_bits()).unwrap_or_default(),
        _ => Vid::UNTAGGED,
    }
}

/// The VID that filtering uses for a frame from a VM's port.
#[inline]
pub(super) fn classify(vlan: &VlanPolicy, customer: Customer) -> Result<Vid, DropReason> {
    let vid = tagged_vid(customer);
    match vlan {
        VlanPolicy::Transparent => Ok(vid),
        VlanPolicy::Access(access) if vid == Vid::UNTAGGED => Ok((*access).into()),
        VlanPolicy::Access(_) => Err(DropReason::VlanTagged),
        VlanPolicy::Trunk { native, .. } if vid == Vid::UNTAGGED => {
            native.map(Vid::from).ok_or(DropReason::VlanUntagged)
        }
        VlanPolicy::Trunk { members, .. } if members.contains(vid) => Ok(vid),
        VlanPolicy::Trunk { .. } => Err(DropReason::VlanNotMember),
    }
}

/// Whether the port's own addresses admit the source. Control keeps them sorted.
#[inline]
fn may_send(addresses: &Addresses, source: Mac) -> bool {
    match addresses {
        Addresses::Learned { .. } => true,
        Addresses::Registered(macs) if macs.len() <= ADDRESSES_SCANNED_MAX => {
            macs.contains(&source)
        }
        Addresses::Registered(macs) => macs.binary_search(&source).is_ok(),
    }
}

/// Which of the reserved addresses the S-component consumes in every channel
/// (802.1Q-2022 table 8-2): 01 to 0A and 0E.
#[inline]
fn is_service_reserved(last: u8) -> bool {
    matches!(last, 0x1..=0xa | 0xe)
}

/// The tags of a `direct` channel's frame: only the priority of the outermost.
#[inline]
fn opaque(header: &[u8], behind: usize) -> Customer {
    match ethernet::outer(header, ADDRESSES_BYTES + behind) {
        Outer::C(tci) | Outer::S(tci) => Customer::Opaque(tci),
        _ => Customer::Opaque(Tci::default()),
    }
}

/// The relay port of a link's frame, and whether an S-tag named it.
#[inline]
pub(super) fn demultiplex(
    channels: &Channels,
    header: &[u8],
) -> Result<(Service, PortId), DropReason> {
    if ethernet::word(header, ADDRESSES_BYTES) != Some(TPID_S) {
        return Ok((Service::Absent, channels.default.ok_or(DropReason::ChannelUnused)?));
    }
    let Outer::S(tci) = ethernet::outer(header, ADDRESSES_BYTES) else {
        return Err(DropReason::TruncatedTag);
    };
    let channel = match tci.vid_bits() {
        0 | 1 => channels.default,
        bits => {
            let svid = SVid::new(bits).ok_or(DropReason::UnknownSvid)?;
            let index = channels.tagged.binary_search_by_key(&svid, |&(svid, _)| svid);
            index
                .ok()
                .and_then(|index| channels.tagged.get(index))
                .ok_or(DropReason::UnknownSvid)?
                .1
        }
    };
    Ok((Service::Present, channel.ok_or(DropReason::ChannelUnused)?))
}

#[inline]
pub(super) fn service_bytes(service: Service) -> usize {
    match service {
        Service::Absent => 0,
        Service::Present => TAG_BYTES,
    }
}

/// Whether what the sender left to do fits the frame, and its segments the MTU.
#[inline]
pub(super) fn offload(mtu: u32, frame: &Frame<'_>) -> Result<(), DropReason> {
    wire::offload::check(frame.header, frame.length, mtu, frame.offload)
        .map_err(|_| DropReason::OffloadInvalid)
}
