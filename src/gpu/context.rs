//! The device: one adapter with its queue, and the buffers, pipelines and bind groups created on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Buffer, Caps, Preset,
    features::{Wanted, has_subgroups},
    shader::Library,
    sites::Sites,
};
use crate::error::{Error, Result};

/// What to tell a person about the adapter in use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AdapterInfo {
    /// The name, as the driver reports it.
    pub name: String,
    /// The graphics API, such as `vulkan`.
    pub backend: String,
    /// Name and version of the driver; may be empty.
    pub driver: String,
}

impl std::fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, backend, driver } = self;
        let driver = if driver.is_empty() { String::new() } else { format!(", {driver}") };
        write!(f, "{name} ({backend}{driver})")
    }
}

/// Work done since the device was created. The figures are the same on every GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) submits: u64,
    pub(crate) dispatches: u64,
    pub(crate) bind_groups_created: u64,
    pub(crate) bytes_uploaded: u64,
    pub(crate) bytes_read_back: u64,
    /// Bytes that dispatches read, by their [`Cost`](super::Cost).
    pub(crate) bytes_read: u64,
}

/// A device, its queue and everything created on it. It stays on one thread.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: AdapterInfo,
    pub(super) caps: Caps,
    pub(super) library: Library,
    next_id: u32,
    pub(super) buffers: HashMap<u32, wgpu::Buffer>,
    pub(super) sites: Sites,
    pub(super) tally: Tally,
    trouble: Arc<Mutex<Trouble>>,
}

/// What the device has reported.
#[derive(Default)]
struct Trouble {
    /// The first error since the last check.
    error: Option<String>,
    /// Why the device was lost. This never clears.
    lost: Option<String>,
}

impl Gpu {
    /// Opens the adapter that `WGPU_ADAPTER_NAME` and `WGPU_BACKEND` select, else the fastest one, with the features
    /// that `preset` may use.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, or if it lacks what `preset` requires.
    pub async fn open(library: Library, preset: Preset) -> Result<Self> {
        Self::open_on(&Instance::default(), library, preset).await
    }

    /// The same on a given instance.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_on(instance: &Instance, library: Library, preset: Preset) -> Result<Self> {
        let adapter = instance.adapter().await?;
        let info = adapter.get_info();
        let Wanted { features, experimental_features, limits, caps } = Wanted::of(&adapter, preset)?;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("headstart"),
                required_features: features,
                experimental_features,
                required_limits: limits,
                memory_hints: wgpu::MemoryHints::Performance,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::NoAdapter { problem: format!("{} refused a device: {e}", info.name) })?;

        let caps = match preset != Preset::Portable && has_subgroups(&device) {
            true => caps.with_subgroups(info.subgroup_min_size, info.subgroup_max_size),
            false => caps,
        };
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        let sink = trouble.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&sink).error.get_or_insert(error.to_string());
        }));
        let sink = trouble.clone();
        device.set_device_lost_callback(move |reason, message| {
            lock(&sink).lost.get_or_insert(format!("{reason:?} {message}").trim().to_owned());
        });

        let info = AdapterInfo {
            name: named(info.name, &device),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        };
        Ok(Self {
            device,
            queue,
            info,
            caps,
            library,
            next_id: 0,
            buffers: HashMap::new(),
            sites: Sites::default(),
            tally: Tally::default(),
            trouble,
        })
    }

    pub(crate) fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The capabilities that the device was opened with.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Restricts the capabilities to `caps`, a subset of [`Gpu::caps`].
    pub fn restrict(&mut self, caps: Caps) {
        self.caps = caps;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Allocates `size` zeroed bytes, rounded up to a multiple of 4. `what` and `fix` go into the error if memory is
    /// short.
    pub async fn alloc(&mut self, what: &str, size: u64, fix: &'static str) -> Result<Buffer> {
        let size = size.max(4).next_multiple_of(4);
        if size > self.caps.max_buffer {
            return Err(Error::GpuMemory { what: what.into(), needed: size, available: self.caps.max_buffer, fix });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let raw = self.create(what, size, usage, fix).await?;
        let buffer = Buffer { id: self.next_id(), size };
        self.buffers.insert(buffer.id, raw);
        Ok(buffer)
    }

    pub(super) async fn create(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        fix: &'static str,
    ) -> Result<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let raw = self.device.create_buffer(&descriptor);
        match scope.pop().await {
            Some(_) => Err(Error::GpuMemory { what: what.into(), needed: size, available: 0, fix }),
            None => self.check().map(|()| raw),
        }
    }

    /// Frees a buffer and every bind group that refers to it.
    pub fn free(&mut self, buffer: Buffer) {
        if let Some(raw) = self.buffers.remove(&buffer.id) {
            raw.destroy();
        }
        self.sites.forget(buffer.id);
    }

    /// Writes `words` at `offset` bytes of `buffer`, before the next submit.
    pub fn write(&mut self, buffer: Buffer, offset: u64, words: &[u32]) {
        self.tally.bytes_uploaded += 4 * words.len() as u64;
        self.queue.write_buffer(&self.buffers[&buffer.id], offset, bytemuck::cast_slice(words));
    }

    /// Submits pending writes and waits for them, so that staging memory is released.
    pub fn flush(&mut self) -> Result<()> {
        self.queue.submit([]);
        self.poll_until(None)
    }

    /// Waits until a submission, by default the last one, is done and its callbacks have run. In a browser callbacks
    /// run on their own, and it returns at once.
    pub(super) fn poll_until(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        self.check()?;
        polled.map(|_| ()).map_err(|e| Error::Gpu { problem: e.to_string() })
    }

    /// Fails if the device was lost, else with the first error reported since the last check.
    pub(super) fn check(&self) -> Result<()> {
        let mut trouble = lock(&self.trouble);
        if let Some(problem) = trouble.lost.clone() {
            return Err(Error::DeviceLost { problem });
        }
        trouble.error.take().map_or(Ok(()), |problem| Err(Error::Gpu { problem }))
    }

    /// As [`Gpu::check`], but first lets pending reports arrive: a browser reports a failure first and its cause a
    /// moment later.
    pub(super) async fn check_late(&self) -> Result<()> {
        self.device.push_error_scope(wgpu::ErrorFilter::Validation).pop().await;
        self.check()
    }

    /// Destroys the device and frees all its memory at once, as a driver reset would. Later operations fail with
    /// [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        lock(&self.trouble).lost.get_or_insert("it was destroyed".into());
    }

    fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }
}

/// The name of an adapter; where it has none, as in most browsers, its vendor and architecture.
fn named(name: String, device: &wgpu::Device) -> String {
    #[cfg(target_arch = "wasm32")]
    if name.is_empty() {
        let of = |object: &wasm_bindgen::JsValue, field: &str| js_sys::Reflect::get(object, &field.into()).ok();
        let info = device.as_webgpu().and_then(|device| of(device, "adapterInfo"));
        let text = |field| info.as_ref().and_then(|info| of(info, field)?.as_string());
        let texts: Vec<String> = ["vendor", "architecture"].into_iter().filter_map(text).collect();
        return texts.join(" ").trim().to_owned();
    }
    #[cfg(not(target_arch = "wasm32"))]
    let _ = device;
    name
}

fn lock(trouble: &Mutex<Trouble>) -> MutexGuard<'_, Trouble> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Access to the GPUs of a machine. One that is made while a host offers WebGPU opens devices later, too.
#[derive(Debug, Clone)]
pub struct Instance(wgpu::Instance);

impl Default for Instance {
    fn default() -> Self {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION | wgpu::InstanceFlags::DEBUG);
        Self(wgpu::Instance::new(descriptor))
    }
}

impl Instance {
    async fn adapter(&self) -> Result<wgpu::Adapter> {
        let Self(instance) = self;
        #[cfg(not(target_arch = "wasm32"))]
        if let Ok(wanted) = std::env::var("WGPU_ADAPTER_NAME") {
            let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
            let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
            let found =
                adapters.into_iter().find(|a| a.get_info().name.to_lowercase().contains(&wanted.to_lowercase()));
            return found.ok_or_else(|| Error::NoAdapter {
                problem: format!("WGPU_ADAPTER_NAME={wanted} matches none of [{}]", names.join(", ")),
            });
        }
        instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::NoAdapter { problem: e.to_string() })
    }
}
