//! What tells a VM within this process another's MAC address, although it did not ask: an
//! ARP reply (RFC 826) or a neighbour advertisement (RFC 4861, 4.4), as from the other.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr,
};

use super::plan::{Family, VmPlan};

/// The frame that introduces `peer` to `vm`.
pub(super) fn frame(vm: &VmPlan, peer: &VmPlan, family: Family) -> Vec<u8> {
    let header = EthernetRepr {
        src_addr: EthernetAddress(peer.mac().octets()),
        dst_addr: EthernetAddress(vm.mac().octets()),
        ethertype: match family {
            Family::Ipv4 => EthernetProtocol::Arp,
            Family::Ipv6 => EthernetProtocol::Ipv6,
        },
    };
    let payload = match family {
        Family::Ipv4 => arp_reply(vm, peer),
        Family::Ipv6 => advertisement(vm, peer),
    };
    let mut frame = vec![0; header.buffer_len()];
    header.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    frame.extend(payload);
    frame
}

fn arp_reply(vm: &VmPlan, peer: &VmPlan) -> Vec<u8> {
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(peer.mac().octets()),
        source_protocol_addr: peer.ipv4(),
        target_hardware_addr: EthernetAddress(vm.mac().octets()),
        target_protocol_addr: vm.ipv4(),
    };
    let mut packet = vec![0; reply.buffer_len()];
    reply.emit(&mut ArpPacket::new_unchecked(&mut packet));
    packet
}

fn advertisement(vm: &VmPlan, peer: &VmPlan) -> Vec<u8> {
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
        target_addr: peer.ipv6(),
        lladdr: Some(EthernetAddress(peer.mac().octets()).into()),
    });
    let header = Ipv6Repr {
        src_addr: peer.ipv6(),
        dst_addr: vm.ipv6(),
        next_header: IpProtocol::Icmpv6,
        payload_len: advertisement.buffer_len(),
        // Anything else might have been routed, and is not believed.
        hop_limit: 255,
    };
    let mut packet = vec![0; header.buffer_len() + advertisement.buffer_len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet));
    let message = &mut packet[header.buffer_len()..];
    advertisement.emit(
        &header.src_addr,
        &header.dst_addr,
        &mut Icmpv6Packet::new_unchecked(message),
        &ChecksumCapabilities::default(),
    );
    packet
}
