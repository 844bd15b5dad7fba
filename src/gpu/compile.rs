//! Compiles kernels into pipelines. A driver takes up to a second for one; natively, several in parallel take no
//! longer.

use std::{collections::HashSet, sync::Arc};

use super::{Access, Caps, Gpu, Kernel, shader, sites::Pipeline};
use crate::error::{Error, Result};

impl Gpu {
    /// Compiles `kernel`, unless that was done before.
    pub async fn compile(&mut self, kernel: &Arc<Kernel>) -> Result<()> {
        self.compile_all([kernel], &mut |_, _| {}).await
    }

    /// Compiles those of `kernels` that are not compiled yet. `progress` gets the number done and the total. Stops at
    /// the first failure.
    pub(crate) async fn compile_all(
        &mut self,
        kernels: impl IntoIterator<Item = &Arc<Kernel>>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let mut known = HashSet::new();
        let todo: Vec<&Arc<Kernel>> =
            kernels.into_iter().filter(|kernel| !self.sites.has(kernel) && known.insert(*kernel)).collect();
        let (mut done, total) = (0, todo.len());
        let mut add = |gpu: &mut Self, kernel: &Arc<Kernel>, pipeline| {
            gpu.sites.add(Arc::clone(kernel), pipeline);
            done += 1;
            progress(done, total);
        };
        #[cfg(target_arch = "wasm32")]
        for kernel in todo {
            let pipeline = self.compiler().pipeline(kernel).await?;
            add(self, kernel, pipeline);
        }
        #[cfg(not(target_arch = "wasm32"))]
        let compiled = on_threads(&self.compiler(), &todo, |kernel, pipeline| add(self, kernel, pipeline));
        #[cfg(target_arch = "wasm32")]
        let compiled = Ok(());
        // Errors reported meanwhile must not surface in later calls.
        let checked = self.check();
        compiled.and(checked)
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

impl Compiler {
    async fn pipeline(&self, kernel: &Kernel) -> Result<Pipeline> {
        let source = shader::expand(self.library, kernel.name, &kernel.defines)?;
        // Only browsers know the directive.
        #[cfg(target_arch = "wasm32")]
        let source = if self.has_subgroups { format!("enable subgroups;\n{source}") } else { source };
        debug_assert!(self.has_subgroups || !source.contains("subgroup"), "{}", kernel.label());
        let label = Some(kernel.name);
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
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
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        match scope.pop().await {
            Some(error) => Err(Error::Shader { name: kernel.label(), problem: error.to_string() }),
            None => Ok(Pipeline { raw, layout }),
        }
    }
}

/// More threads do not help: the slowest compilation decides.
#[cfg(not(target_arch = "wasm32"))]
const MOST_THREADS: usize = 8;

/// Compiles all of `todo` on free threads and hands each to `done` when it is ready.
#[cfg(not(target_arch = "wasm32"))]
fn on_threads(compiler: &Compiler, todo: &[&Arc<Kernel>], mut done: impl FnMut(&Arc<Kernel>, Pipeline)) -> Result<()> {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(todo.len());
    let next = AtomicUsize::new(0);
    let (sender, compiled) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                while let Some(kernel) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // After a failure nobody receives any more.
                    if sender.send((*kernel, pollster::block_on(compiler.pipeline(kernel)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (kernel, pipeline) in compiled {
            done(kernel, pipeline?);
        }
        Ok(())
    })
}
