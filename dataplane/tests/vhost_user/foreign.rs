//! A front end that is not ours: the `vhost` crate's, over a socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use hairpin_dataplane::port::vhost_user::connection::{Connection, Received};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::regions::REGIONS_MAX;
use hairpin_dataplane::port::vhost_user::ring::Service;
use hairpin_dataplane::port::vhost_user::session::{Handled, Session};
use rustix::event::{PollFd, PollFlags, poll};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::wiring::*;

/// Serves a connection to its end, as control's thread does.
fn serve(socket: UnixStream, mut session: Session) -> Session {
    let mut connection = Connection::new(socket).unwrap();
    loop {
        let mut fds = [PollFd::new(&connection, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        let message = match connection.receive().unwrap() {
            Received::Message(message) => message,
            Received::Nothing | Received::Again => continue,
            Received::Closed => break,
        };
        let mut handled = session.handle(message).unwrap();
        while handled == Handled::Stuck {
            handled = session.resume().unwrap();
        }
        if let Handled::Reply(reply) = handled {
            connection.send(&reply).unwrap();
        }
    }
    session.end().unwrap();
    session
}

/// A front end that wants everything acknowledged, the session's thread, and its host.
fn served() -> (Frontend, JoinHandle<Session>, Host) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let Vmm { session, host } = Vmm::silent();
    let thread = std::thread::spawn(move || serve(ours, session));
    let frontend = Frontend::from_stream(theirs, 4);
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    (frontend, thread, host)
}

fn negotiate(frontend: &mut Frontend, features: Features) {
    frontend.set_owner().unwrap();
    let offered = frontend.get_features().unwrap();
    assert_eq!(offered & features.bits(), features.bits());
    let wanted = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    assert!(frontend.get_protocol_features().unwrap().contains(wanted));
    frontend.set_protocol_features(wanted).unwrap();
    frontend.set_features(features.bits()).unwrap();
}

fn region(guest: u64, user: u64, file: &OwnedFd) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: guest,
        memory_size: MEMORY_BYTES,
        userspace_addr: user,
        mmap_offset: 0,
        mmap_handle: file.as_fd().as_raw_fd(),
    }
}

fn start(frontend: &mut Frontend, ring: usize, base: u16) {
    let [_, descriptors, device, driver, _] = addresses(ring as u32);
    frontend.set_vring_num(ring, 256).unwrap();
    frontend.set_vring_base(ring, base).unwrap();
    let config = VringConfigData {
        queue_max_size: 256,
        queue_size: 256,
        flags: 0,
        desc_table_addr: descriptors,
        used_ring_addr: device,
        avail_ring_addr: driver,
        log_addr: None,
    };
    frontend.set_vring_addr(ring, &config).unwrap();
    let event = || EventFd::new(0).unwrap();
    frontend.set_vring_call(ring, &event()).unwrap();
    frontend.set_vring_kick(ring, &event()).unwrap();
    frontend.set_vring_enable(ring, true).unwrap();
}

#[test]
fn a_device_is_negotiated_started_stopped_and_started_again() {
    let _alone = alone();
    let before = open_descriptors();
    let (mut frontend, thread, host) = served();
    let features = MODERN.with(Features::RING_PACKED).with(Features::MQ);
    negotiate(&mut frontend, features);
    let file = memfd(MEMORY_BYTES);
    frontend.set_mem_table(&[region(GUEST, USER, &file)]).unwrap();
    (0..4).for_each(|ring| start(&mut frontend, ring, 0x8000));
    assert_eq!(host.running(), [0, 1, 2, 3]);
    assert_eq!(host.start_of(3).service, Service::Enabled);
    host.log().progress = 3;
    assert_eq!(frontend.get_vring_base(1).unwrap(), 0x8003_8003);
    assert_eq!(host.running(), [0, 2, 3]);
    start(&mut frontend, 1, 0x8003);
    assert_eq!(host.start_of(1).terms.position.used, 0x8003);
    frontend.reset_device().unwrap();
    assert!(host.running().is_empty());
    (0..2).for_each(|ring| start(&mut frontend, ring, 0x8000));
    assert_eq!(host.running(), [0, 1]);
    drop(frontend);
    let session = thread.join().unwrap();
    assert!(host.running().is_empty());
    assert_eq!((session.status().counts.refused, session.status().last_error), (0, None));
    drop((session, file));
    assert_eq!(open_descriptors(), before);
}

#[test]
fn memory_changes_by_regions_while_rings_run() {
    let _alone = alone();
    let (mut frontend, thread, host) = served();
    negotiate(&mut frontend, MODERN);
    assert_eq!(frontend.get_max_mem_slots().unwrap(), REGIONS_MAX as u64);
    let (first, second) = (memfd(MEMORY_BYTES), memfd(MEMORY_BYTES));
    frontend.add_mem_region(&region(GUEST, USER, &first)).unwrap();
    (0..2).for_each(|ring| start(&mut frontend, ring, 0));
    let more = region(GUEST + MEMORY_BYTES, USER + MEMORY_BYTES, &second);
    frontend.add_mem_region(&more).unwrap();
    assert_eq!(host.running(), [0, 1]);
    frontend.remove_mem_region(&more).unwrap();
    frontend.remove_mem_region(&more).unwrap();
    let never = region(GUEST + 7 * MEMORY_BYTES, USER + MEMORY_BYTES, &second);
    assert!(frontend.remove_mem_region(&never).is_err());
    assert_eq!(host.running(), [0, 1]);
    drop(frontend);
    assert_eq!(thread.join().unwrap().status().counts.refused, 1);
}

#[test]
fn the_number_of_queues_is_that_of_pairs_and_refusals_are_told() {
    let _alone = alone();
    let (mut frontend, thread, _host) = served();
    negotiate(&mut frontend, MODERN);
    assert!(frontend.set_features(1 << 17).is_err());
    assert!(frontend.set_vring_num(0, 0).is_err());
    assert_eq!(frontend.get_queue_num().unwrap(), 2);
    drop(frontend);
    assert_eq!(thread.join().unwrap().status().counts.refused, 2);
}
