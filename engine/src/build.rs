//! How does a Dockerfile become an image?
//!
//! Parse, lower, solve, assemble, export: each step is somebody else's; this is their order. Nothing is visible before
//! the image and its names are stored in one transaction.
//!
//! A build that finds everything needs no event loop, see [`blocking`](crate::blocking).

mod arguments;
mod cause;
mod check;
mod contexts;
mod date;
mod dockerfile;
mod history;
mod numbers;
mod outcome;
mod plan;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rbuild_cache::{LayerId, StoreError};
use rbuild_core::{Digest, Event, Platform, Reporter, with_causes};
use rbuild_frontend::{
    CacheUse, DateSource, Diagnostic, Entitlements, LowerError, LowerOptions, Lowered, ResolveImage, Severity, Source,
    StageUse,
};
use rbuild_image::{Descriptor, ImageConfig};
use rbuild_solver::{Journal, Limits, Solver};

use self::arguments::Arguments;
pub use self::cause::Cause;
pub use self::check::Checked;
use self::check::{Purpose, Read};
use self::contexts::Contexts;
use self::history::{Account, Scope};
pub use self::history::{PastBuild, PastResult, PastStep, PastVerdict};
use self::numbers::Numbers;
pub use self::outcome::{BuildError, BuildOutcome};
pub use self::plan::{BuildPlan, Forecast, PlannedStage, PlannedStep, StepInput, StepKind};
use crate::assemble::{self, LayerFact};
use crate::blocking::{at_once, blocking, event_loop, has_event_loop};
use crate::cdi::Devices;
use crate::context::{Fetcher, Layout};
use crate::engine::{Engine, reference};
use crate::error::Error;
use crate::export::compression;
use crate::host_ca::HostCa;
use crate::images::pull::Freshness;
use crate::records::StoreRecords;
use crate::request::{BuildRequest, Entitlement, Export, NetworkMode};
use crate::secret::Secrets;
use crate::ssh::Agents;
use crate::value::Value;
use crate::worker::{BuildWorker, Listings, Remotes, Seals, Stubs, WorkerError};

impl Engine {
    /// Builds an image into the local store, and wherever else the request says.
    ///
    /// The future may be polled before there is a tokio runtime. It is ready then if everything was found, and otherwise
    /// pending until it is polled within one; up to there it keeps no thread.
    ///
    /// # Errors
    /// [`BuildError`] tells mistakes in the Dockerfile, failed steps and everything else apart.
    pub async fn build(&self, request: BuildRequest, reporter: &Reporter) -> Result<BuildOutcome, BuildError> {
        if self.store().layers().are_in_doubt().map_err(Error::from)? {
            // They are read before they are believed again.
            event_loop().await;
        }
        let lease = self.store().lease("build").map_err(Error::from)?;
        let names =
            request.tags.iter().map(|tag| Ok(reference(tag)?.to_string())).collect::<Result<Vec<_>, Error>>()?;
        let (began, numbers) = (Instant::now(), Numbers::default());
        let reporter = &numbers.counting(reporter);
        let prepared = match self.prepare(&request, Purpose::Build, reporter).await {
            Ok(prepared) => prepared,
            Err(error) => {
                if has_event_loop() {
                    self.clean_up_after_failure().await;
                }
                return Err(error);
            }
        };
        let journal = Journal::default();
        let result = self.finish(&request, &names, &prepared, reporter, &journal).await;
        let account = Account {
            request: &request,
            elapsed: began.elapsed(),
            result: result.as_ref().map(|(id, _)| *id),
            numbers: &numbers,
            journal: &journal,
        };
        let account = self.account(&prepared, &account).await;
        // Also after a failure: what it discarded may be all that stands between a full disk and the next build.
        drop(lease);
        self.clean_up(prepared.solver.worker(), reporter).await;
        let Prepared { source, warnings, .. } = prepared;
        let (id, manifest) = match result {
            Err(BuildError::Step { text, diagnostic, vertex, .. }) => {
                return Err(BuildError::Step { text, diagnostic, warnings, vertex });
            }
            result => result?,
        };
        Ok(BuildOutcome { id, manifest, names, warnings, source, account })
    }

    /// Solves, stores and exports.
    async fn finish(
        &self,
        request: &BuildRequest,
        names: &[String],
        Prepared { source, lowered, solver, .. }: &Prepared,
        reporter: &Reporter,
        journal: &Journal,
    ) -> Result<(Digest, Option<Descriptor>), BuildError> {
        let targets = [lowered.result];
        let solve = || solver.solve_noting(&lowered.graph, &targets, reporter, journal);
        let mut solved = solve().await;
        if solved.as_ref().is_err_and(|error| error.worker_error().is_some_and(WorkerError::is_lost_layer)) {
            // A layer was damaged or deleted, and is given up with the records that stand on it: now it is made anew.
            journal.begin_again();
            let message = "a layer in the store was damaged or deleted: trying again without it".to_owned();
            reporter.emit(Event::Notice { message });
            solved = solve().await;
        }
        let outputs = solved.map_err(|error| BuildError::step(source, error))?;
        let Some(Value::Root(layers)) = outputs.into_iter().next() else {
            unreachable!("lowering gives a root file system as result");
        };
        solver.worker().seals.finish().await;
        let image = self.assemble(lowered, layers, names).await?;
        let mut manifest = image.manifest.clone();
        // What is pushed anyway is compressed while it is sent.
        let travels = |export: &Export| match export {
            Export::Image { travels: Some(options) } if !options.rewrite_timestamp => Some(compression(options)),
            _ => None,
        };
        let pushed = request.push && !names.is_empty();
        for export in request.outputs.iter().filter(|export| !pushed || travels(export).is_none()) {
            let exported = self.export(&image, &request.tags, export, lowered.source_date_epoch, reporter).await?;
            manifest = exported.or(manifest);
        }
        if pushed {
            let travels = request.outputs.iter().filter_map(travels).next_back();
            for name in names {
                manifest = Some(self.push_as(name, travels, reporter).await?.descriptor());
            }
        }
        Ok((image.id, manifest))
    }

    /// Tells what a build did, and remembers it if it did something.
    async fn account(&self, prepared: &Prepared, account: &Account<'_>) -> Option<PastBuild> {
        let made = history::is_worth_a_row(account);
        if !made && !account.request.explain {
            return None;
        }
        let past = PastBuild::new(prepared, account).await;
        if made {
            let (store, row) = (self.store().clone(), past.row(&prepared.scope));
            // Waits for other processes that write, and for the disk.
            if let Err(error) = blocking(move || store.builds().add(&row)).await {
                tracing::debug!(%error, "build not remembered");
            }
        }
        Some(past)
    }

    /// Everything that can be done before the cache is asked.
    async fn prepare(
        &self,
        request: &BuildRequest,
        purpose: Purpose,
        reporter: &Reporter,
    ) -> Result<Prepared, BuildError> {
        let secrets = Secrets::new(request.secrets.clone());
        let fetcher = Fetcher { engine: self, secrets: &secrets };
        let mut read = read_all(fetcher, request, reporter).await;
        if read.is_err() && !has_event_loop() {
            // Who has more powers by then may be able to.
            event_loop().await;
            read = read_all(fetcher, request, reporter).await;
        }
        let (source, file, arguments, contexts, scope) = read?;
        let lowered = self.lower(&file, request, arguments, &contexts, &source, purpose).await;
        let (mut lowered, resolved) = lowered.map_err(|error| check::with_warnings(&file, error))?;
        let mut warnings = check::warnings(&source, &file, &lowered);
        if file.directives.check.error && !warnings.is_empty() && purpose == Purpose::Build {
            // `# check=error=true`: the author wants them to be mistakes.
            warnings.iter_mut().for_each(|warning| warning.severity = Severity::Error);
            return Err(BuildError::Dockerfile { text: source, diagnostics: warnings });
        }

        let devices = Devices::of(&lowered.graph, &request.device_specifications, &request.allow)?;
        let wrong = devices.check(&lowered.graph);
        // The machine a file is checked on need not have them.
        if !wrong.is_empty() && purpose == Purpose::Build {
            return Err(BuildError::Dockerfile { text: source, diagnostics: wrong });
        }
        lowered.graph.set_scope(&*scope.dockerfile);
        let listings = Listings::default();
        let worker = BuildWorker {
            engine: self.clone(),
            images: resolved,
            made: AtomicBool::new(false),
            contexts: contexts.files,
            secrets,
            devices,
            agents: Agents::open(&request.ssh)?,
            host_ca: if request.host_ca { Some(HostCa::find().ok_or(BuildError::NoHostCa)?) } else { None },
            remotes: Remotes::new(reporter.clone()),
            listings: listings.clone(),
            seals: Seals::new(&lowered.graph, lowered.result),
            stubs: Stubs::default(),
        };
        let limits = Limits { jobs: request.jobs, ..Limits::default() };
        let solver = Solver::new(worker, StoreRecords::new(self.store().clone(), listings), limits);
        Ok(Prepared { source, file, warnings, lowered, solver, scope })
    }

    /// Remembers what was learnt about files, and deletes what the build discarded and what the store has too much of, now
    /// that its result is there. A failure leaves work for the next build, no more; the user is told of one that no later
    /// build gets over.
    async fn clean_up(&self, worker: &BuildWorker, reporter: &Reporter) {
        worker.stubs.discard();
        let (engine, store, contexts) = (self.clone(), self.store().clone(), worker.contexts.clone());
        let listings = worker.listings.clone();
        worker.seals.abandon();
        let made = worker.made.load(Ordering::Relaxed);
        let waited = has_event_loop();
        let cleaned = at_once(move || {
            listings.finish();
            // First: on a full disk nothing can be remembered before there is room again. Who only looked has left nothing,
            // but may have been what a prune was waiting for.
            let reaped = match waited || store.has_condemned().unwrap_or(true) {
                true => store.reap().map(drop).map_err(Error::from),
                false => Ok(()),
            };
            // None keeps the others from being done.
            let remembered = contexts.values().map(|context| context.remember(&store));
            let remembered = remembered.fold(Ok(()), Result::and);
            let collected = if made { engine.collect() } else { Ok(()) };
            reaped.and(remembered).and(collected)
        });
        if let Err(error) = cleaned.await {
            tracing::debug!(%error, "cleaning up failed");
            if let Error::Store(StoreError::Row { .. } | StoreError::Format { .. }) = &error {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let message = format!("the store was not cleaned up: {}{hint}", with_causes(&error));
                reporter.emit(Event::Notice { message });
            }
        }
    }

    async fn lower(
        &self,
        file: &rbuild_frontend::Dockerfile,
        request: &BuildRequest,
        arguments: Arguments,
        contexts: &Contexts,
        source: &Arc<Source>,
        purpose: Purpose,
    ) -> Result<(Lowered, HashMap<Digest, Vec<LayerId>>), BuildError> {
        let host = Platform::host();
        let platform = match &request.platform {
            Some(text) => text.parse().map_err(BuildError::Platform)?,
            None => host.clone(),
        };
        let mut options = LowerOptions::new(platform);
        options.build_platform = host;
        options.build_args = arguments;
        options.target.clone_from(&request.target);
        options.named_contexts.clone_from(&contexts.named);
        if let Some(context) = contexts.files.get(contexts::MAIN) {
            options.ignored = context.ignore();
        }
        if purpose == Purpose::Check && request.target.is_none() {
            options.stages = StageUse::All;
        }
        options.cache = match (request.no_cache, request.no_cache_stages.as_slice()) {
            (true, _) => CacheUse::None,
            (false, []) => CacheUse::All,
            (false, stages) => CacheUse::AllBut(stages.to_vec()),
        };
        options.labels = request.labels.iter().cloned().collect();
        options.add_hosts.clone_from(&request.add_hosts);
        options.network = request.network.unwrap_or_default();
        options.entitlements = Entitlements {
            // As in buildx: who builds on the host's network has said that steps may see it.
            network_host: options.network == NetworkMode::Host || request.allow.contains(&Entitlement::NetworkHost),
            security_insecure: request.allow.contains(&Entitlement::SecurityInsecure),
        };
        options.shm_size = request.shm_size;
        options.source_date_epoch = crate::time::source_date_epoch();
        if let Some(name) = crate::time::source_date_name() {
            options.build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(Some(name));
        }
        let freshness = if request.pull { Freshness::Registry } else { Freshness::LocalName };
        let secrets = Secrets::new(request.secrets.clone());
        let layouts = &contexts.layouts;
        let resolver = Resolver { engine: self, request, freshness, layouts, secrets, resolved: Mutex::default() };
        let lowered = rbuild_frontend::lower(file, &options, &resolver).await.map_err(|error| match error {
            LowerError::Mistakes(diagnostics) => BuildError::Dockerfile { text: source.clone(), diagnostics },
            LowerError::Image { name, platform, span, hint, source: cause } => {
                let message = format!("cannot find base image `{name}` for {platform}: {}", with_causes(&cause));
                let hint = hint.or_else(|| cause.hint()).or_else(|| self.similar_image(&name));
                let diagnostic = Diagnostic::error(span, message).hint_if(hint);
                BuildError::Dockerfile { text: source.clone(), diagnostics: vec![diagnostic] }
            }
            LowerError::Date { name, span, source: cause } => {
                let message = format!("cannot find the time of `{name}`: {}", with_causes(&cause));
                let diagnostic = Diagnostic::error(span, message).hint_if(cause.hint());
                BuildError::Dockerfile { text: source.clone(), diagnostics: vec![diagnostic] }
            }
        })?;
        Ok((lowered, resolver.resolved.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Advice for the name of an image that cannot be found.
    fn similar_image(&self, name: &str) -> Option<String> {
        let images = self.store().images().list().ok()?;
        let parsed = images.iter().flat_map(|image| &image.names).filter_map(|name| reference(name).ok());
        let known: Vec<String> = parsed.flat_map(|name| [name.familiar_name(), name.familiar()]).collect();
        let nearest = rbuild_frontend::nearest(name, known.iter().map(String::as_str));
        Some(match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`rbuild images` lists the images of this machine; others need a registry that can be reached"
                .to_owned(),
        })
    }

    /// Writes the configuration and stores the image under its names.
    async fn assemble(
        &self,
        lowered: &Lowered,
        layers: Vec<LayerId>,
        names: &[String],
    ) -> Result<rbuild_cache::Image, Error> {
        let (store, config, epoch) = (self.store().clone(), lowered.config.clone(), lowered.source_date_epoch);
        let names = names.to_vec();
        let known = assemble::known_facts(&store, &layers)?;
        if known.is_none() {
            // Files of layers are read.
            event_loop().await;
        }
        at_once(move || {
            let facts = known.map_or_else(|| assemble::facts(&store, &layers), Ok)?;
            let inherited = config.history.iter().rposition(|entry| entry.created.is_some()).map_or(0, |at| at + 1);
            let epoch = epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            let times: Vec<LayerFact> = facts.iter().map(|(fact, _)| *fact).collect();
            let config: ImageConfig = assemble::finish(config, &times, inherited, epoch);
            let bytes = serde_json::to_vec(&config).map_err(|e| Error::malformed("configuration", "the result", e))?;
            let descriptor = store.content().put(rbuild_image::media::OCI_CONFIG, &bytes)?;
            let known = store.images().find(&descriptor.digest)?.and_then(|image| image.manifest);
            let image = rbuild_cache::Image {
                id: descriptor.digest,
                layers,
                manifest: known,
                created: crate::time::parse(config.created.as_deref()),
                size: facts.iter().map(|(_, size)| size).sum(),
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            store.images().put(&image, &names)?;
            Ok(image)
        })
        .await
    }
}

/// Reads the Dockerfile and all ignore files.
async fn read_all(
    fetcher: Fetcher<'_>,
    request: &BuildRequest,
    reporter: &Reporter,
) -> Result<(Arc<Source>, rbuild_frontend::Dockerfile, Arguments, Contexts, Scope), BuildError> {
    let Read { source, file, arguments, main, place } = check::read(fetcher, request, reporter).await?;
    let scope = Scope::new(request, &place, &main);
    let contexts = contexts::all(request, main, &place)?;
    Ok((source, file, arguments, contexts, scope))
}

/// A build that has only to be solved.
struct Prepared {
    source: Arc<Source>,
    file: rbuild_frontend::Dockerfile,
    warnings: Vec<Diagnostic>,
    lowered: Lowered,
    solver: Solver<BuildWorker, StoreRecords>,
    scope: Scope,
}

/// Base images for lowering.
struct Resolver<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    freshness: Freshness,
    /// Images in directories, by what a named context calls them.
    layouts: &'a BTreeMap<String, Layout>,
    secrets: Secrets,
    /// What each image consists of: it may be pruned before the build gets to it, its layers not.
    resolved: Mutex<HashMap<Digest, Vec<LayerId>>>,
}

impl ResolveImage for Resolver<'_> {
    type Error = Error;

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Error> {
        let (image, config) = match self.layouts.get(name) {
            Some(layout) => self.engine.obtain_from_layout(layout, platform).await?,
            None => self.engine.obtain(name, platform, self.freshness).await?,
        };
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).insert(image.id, image.layers);
        Ok((image.id, config))
    }

    async fn date(&self, source: &DateSource) -> Result<Option<i64>, Error> {
        let fetcher = Fetcher { engine: self.engine, secrets: &self.secrets };
        date::of(fetcher, self.request, source).await
    }
}
