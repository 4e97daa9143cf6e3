//! One port's vhost-user messages, and the queues they add up to.

use super::site::Site;
use super::worker::{Counts, Port};
use hairpin_dataplane::port::vhost_user::queue::{QueueReceiver, QueueTransmitter, RingKind};
use hairpin_dataplane::sys::memory::{Mapping, Memory, Region};
use hairpin_dataplane::sys::virtqueue::{Indirect, Layout, Merge, Order, Position, Terms, Wishes};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};

const MRG_RXBUF: u64 = 1 << 15;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const RING_PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;

/// The driver's receive queue.
const TO_DRIVER: usize = 0;
/// The driver's transmit queue.
const FROM_DRIVER: usize = 1;

/// What is known of a queue.
#[derive(Debug, Default)]
struct Queue {
    size: u16,
    /// Descriptors, driver area, device area, in the front end's addresses.
    areas: Option<[u64; 3]>,
    base: u16,
    kicked: bool,
    enabled: bool,
    call: Option<File>,
}

/// A region in the front end's addresses and in those that buffers have.
#[derive(Clone, Copy, Debug)]
struct Window {
    user: u64,
    guest: u64,
    size: u64,
}

/// One port of the wire.
#[derive(Debug)]
pub struct Device {
    index: usize,
    site: Arc<Site>,
    features: u64,
    memory: Option<Arc<Memory>>,
    windows: Vec<Window>,
    queues: [Queue; 2],
    counts: Counts,
}

impl Device {
    /// A port of a site, without a front end yet.
    #[must_use]
    pub fn new(index: usize, site: Arc<Site>) -> Device {
        Device {
            index,
            site,
            features: 0,
            memory: None,
            windows: Vec::new(),
            queues: Default::default(),
            counts: Counts::default(),
        }
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        self.queues.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    /// Takes the port down and notes where its queues stand.
    pub fn park(&mut self) {
        let Some(mut port) = self.site.down(self.index) else { return };
        self.counts = port.counts;
        self.queues[TO_DRIVER].base = port.transmitter.position().used;
        self.queues[FROM_DRIVER].base = port.receiver.position().used;
        self.queues[TO_DRIVER].call = port.transmitter_call;
        self.queues[FROM_DRIVER].call = port.receiver_call;
    }

    /// Brings the port up if all it needs is known.
    fn unpark(&mut self) -> Result<()> {
        let started = |queue: &Queue| queue.kicked && queue.enabled && queue.areas.is_some();
        if !self.queues.iter().all(started) {
            return Ok(());
        }
        let kind =
            if self.features & RING_PACKED == 0 { RingKind::Split } else { RingKind::Packed };
        let receiver = QueueReceiver::open(kind, &self.terms(FROM_DRIVER)?).map_err(refuse)?;
        let transmitter = QueueTransmitter::open(kind, &self.terms(TO_DRIVER)?).map_err(refuse)?;
        let port = Port {
            receiver,
            transmitter,
            receiver_call: self.queues[FROM_DRIVER].call.take(),
            transmitter_call: self.queues[TO_DRIVER].call.take(),
            counts: self.counts,
        };
        self.site.up(self.index, port);
        Ok(())
    }

    fn terms(&self, index: usize) -> Result<Terms> {
        let queue = &self.queues[index];
        let memory = self.memory.as_ref().ok_or(Error::InvalidOperation("no memory table"))?;
        let [descriptors, driver, device] = queue.areas.ok_or(Error::InvalidParam)?;
        let layout = Layout {
            size: queue.size,
            descriptors: self.translate(descriptors)?,
            driver: self.translate(driver)?,
            device: self.translate(device)?,
        };
        let on = |feature| self.features & feature != 0;
        Ok(Terms {
            memory: Arc::clone(memory),
            layout,
            // Nothing is in flight between the two: queues are stopped at a burst's end.
            position: Position { available: queue.base, used: queue.base },
            order: if on(IN_ORDER) { Order::InOrder } else { Order::Any },
            merge: if on(MRG_RXBUF) { Merge::Mergeable } else { Merge::Single },
            indirect: Indirect::Refused,
            wishes: Wishes::Flags,
        })
    }

    /// A front-end address as buffers would have it.
    fn translate(&self, user: u64) -> Result<u64> {
        self.windows
            .iter()
            .find_map(|window| {
                let offset = user.checked_sub(window.user)?;
                (offset < window.size).then(|| window.guest.checked_add(offset))?
            })
            .ok_or(Error::InvalidParam)
    }

    /// Changes a queue while the port is down.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Queue)) -> Result<()> {
        self.park();
        change(self.queue(index)?);
        self.unpark()
    }
}

/// Serves one front end's messages until it goes; its port is down then. `name` is how what goes
/// wrong with a message is told on standard error.
pub fn serve(
    name: &str,
    mut handler: BackendReqHandler<Mutex<Device>>,
    device: &Mutex<Device>,
) -> Error {
    loop {
        match handler.handle_request() {
            Ok(()) => {}
            Err(error @ (Error::Disconnected | Error::SocketBroken(_) | Error::PartialMessage)) => {
                if let Ok(mut device) = device.lock() {
                    device.park();
                }
                return error;
            }
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
}

fn refuse(error: impl std::fmt::Display) -> Error {
    eprintln!("{error}");
    Error::InvalidParam
}

/// Maps a region; the file is mapped from its start, as huge pages have to be.
fn map(region: &VhostUserMemoryRegion, file: &File) -> Option<Region> {
    let offset = usize::try_from(region.mmap_offset).ok()?;
    let length = offset.checked_add(usize::try_from(region.memory_size).ok()?)?;
    let mapping = Mapping::shared(file.as_fd(), 0, length).ok()?;
    Region::within(region.guest_phys_addr, mapping, offset)
}

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.park();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.park();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(MRG_RXBUF | PROTOCOL_FEATURES | VERSION_1 | RING_PACKED | IN_ORDER)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.park();
        self.features = features;
        let enabled = features & PROTOCOL_FEATURES == 0;
        self.queues.iter_mut().for_each(|queue| queue.enabled |= enabled);
        self.unpark()
    }

    fn set_mem_table(
        &mut self,
        table: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.park();
        let regions = table.iter().zip(&files).map(|(region, file)| map(region, file));
        let regions = regions.collect::<Option<Vec<Region>>>().ok_or(Error::InvalidParam)?;
        self.memory = Some(Arc::new(Memory::new(regions)));
        self.windows = table
            .iter()
            .map(|region| Window {
                user: region.user_addr,
                guest: region.guest_phys_addr,
                size: region.memory_size,
            })
            .collect();
        self.unpark()?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.change(index, |queue| queue.size = size)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.change(index, |queue| queue.areas = Some([descriptor, available, used]))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.change(index, |queue| queue.base = base as u16)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.park();
        let packed = self.features & RING_PACKED != 0;
        let queue = self.queue(index)?;
        queue.kicked = false;
        let base = u32::from(queue.base);
        Ok(VhostUserVringState::new(index, if packed { base | base << 16 } else { base }))
    }

    fn set_vring_kick(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.change(u32::from(index), |queue| queue.kicked = true)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.change(u32::from(index), |queue| queue.call = fd)
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index, |queue| queue.enabled = enable)
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(Error::InvalidParam)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidParam)
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(Error::InvalidParam)
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(Error::InvalidParam)
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(Error::InvalidParam)
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidParam)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidParam)
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(Error::InvalidParam)
    }
}
