//! Compiles kernels into pipelines beside other work, such as the upload of weights: natively on threads, in browsers by
//! the browser. A driver takes up to a second for one.

use std::{collections::HashSet, future::Future, sync::Arc};

use super::{Access, Caps, Gpu, Kernel, shader, sites::Pipeline};
use crate::error::{Error, Result};

#[cfg(target_arch = "wasm32")]
mod promises;
#[cfg(target_arch = "wasm32")]
use promises::Pending;
#[cfg(not(target_arch = "wasm32"))]
mod threads;
#[cfg(not(target_arch = "wasm32"))]
use threads::Pending;

/// Kernels that are being compiled. When it is dropped, no thread compiles any more. A browser ends what it has begun.
pub struct Compilation {
    pending: Pending,
    total: usize,
}

impl Gpu {
    /// Compiles `kernel`, unless that was done before.
    ///
    /// # Errors
    /// As [`Gpu::finish_compiling`].
    pub async fn compile(&mut self, kernel: &Arc<Kernel>) -> Result<()> {
        self.compile_all([kernel]).await
    }

    /// Compiles those of `kernels` that are not compiled yet, and does nothing else meanwhile.
    pub(crate) async fn compile_all(&mut self, kernels: impl IntoIterator<Item = &Arc<Kernel>>) -> Result<()> {
        let compilation = self.start_compiling(kernels);
        self.finish_compiling(compilation, &mut |_, _| {}).await
    }

    /// Starts to compile those of `kernels` that are not compiled yet. Anything may be done on the device meanwhile.
    pub fn start_compiling<'a>(&self, kernels: impl IntoIterator<Item = &'a Arc<Kernel>>) -> Compilation {
        let mut known = HashSet::new();
        let todo: Vec<Arc<Kernel>> =
            kernels.into_iter().filter(|kernel| !self.sites.has(kernel) && known.insert(*kernel)).cloned().collect();
        let total = todo.len();
        Compilation { pending: Pending::start(self.compiler(), todo), total }
    }

    /// Waits until all kernels of a compilation can be dispatched. `progress` gets the number done and the total.
    ///
    /// # Errors
    /// [`Error::Shader`] with the first kernel that was refused, and [`Error::DeviceLost`].
    pub async fn finish_compiling(
        &mut self,
        Compilation { mut pending, total }: Compilation,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let (mut done, mut refused) = (0, None);
        progress(done, total);
        while let Some((kernel, pipeline)) = pending.next().await {
            match pipeline {
                Ok(pipeline) => self.sites.add(kernel, pipeline),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            done += 1;
            progress(done, total);
        }
        drop(pending);
        let Some(refused) = refused else { return self.check() };
        // Errors reported meanwhile must not surface in later calls. A lost device refuses every kernel.
        match self.check_late().await {
            Err(lost @ Error::DeviceLost { .. }) => Err(lost),
            _ => Err(refused),
        }
    }

    fn compiler(&self) -> Compiler {
        let Caps { subgroup_size, cluster_size, .. } = self.caps;
        let has_subgroups = subgroup_size.or(cluster_size).is_some() || self.caps.fragments().is_some();
        Compiler { device: self.device.clone(), library: self.library, has_subgroups }
    }
}

/// Everything needed to compile, on any thread.
struct Compiler {
    device: wgpu::Device,
    library: shader::Library,
    has_subgroups: bool,
}

/// What a pipeline is made of.
struct Parts {
    label: Option<&'static str>,
    module: wgpu::ShaderModule,
    layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
}

impl Compiler {
    fn source(&self, kernel: &Kernel) -> Result<String> {
        let source = shader::expand(self.library, kernel.name, &kernel.defines)?;
        // Only browsers know the directive.
        #[cfg(target_arch = "wasm32")]
        let source = if self.has_subgroups { format!("enable subgroups;\n{source}") } else { source };
        debug_assert!(self.has_subgroups || !source.contains("subgroup"), "{}", kernel.label());
        Ok(source)
    }

    fn parts(&self, kernel: &Kernel, source: String) -> Parts {
        let label = Some(kernel.name);
        let descriptor = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: every kernel guards its own indices (checked against the CPU twins) and its loops are bounded.
        let module =
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(kernel.bindings)
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout =
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        Parts { label, module, layout, pipeline_layout }
    }

    /// Scopes for all errors of a pipeline but missing memory. They are popped before anything is awaited, so that work
    /// that goes on beside it keeps its own errors.
    fn scopes(&self) -> [wgpu::ErrorScopeGuard; 2] {
        [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation].map(|filter| self.device.push_error_scope(filter))
    }
}

/// Pops such scopes at once, and gives the first error later.
fn pop([internal, validation]: [wgpu::ErrorScopeGuard; 2]) -> impl Future<Output = Option<wgpu::Error>> {
    let (validation, internal) = (validation.pop(), internal.pop());
    async { validation.await.or(internal.await) }
}

impl Parts {
    fn descriptor(&self) -> wgpu::ComputePipelineDescriptor<'_> {
        wgpu::ComputePipelineDescriptor {
            label: self.label,
            layout: Some(&self.pipeline_layout),
            module: &self.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        }
    }
}

fn refused(kernel: &Kernel, problem: String) -> Error {
    Error::Shader { name: kernel.label(), problem }
}
