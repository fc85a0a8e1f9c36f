//! What must somebody be able to do for a graph to be solved?
//!
//! The solver knows keys, order and cancellation; a [`Worker`] knows what ops mean. All futures of a worker are polled
//! by the tasks that wait in `Solver::solve`: whatever blocks a thread belongs on `spawn_blocking`. Dropping any of
//! them cancels it, and must leave nothing behind.

use rbuild_core::{Digest, KeyHasher, Reporter, Resources, StepId};

use crate::graph::{Component, KeyScope, Op, Origin};

/// What an op is, as far as its cache keys are concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fingerprint {
    /// Enters the definition key: covers every component.
    pub digest: Digest,
    /// Enters the content key: covers the components of [`KeyScope::Both`].
    pub content: Digest,
    /// The named values behind both, for explaining a miss.
    pub components: Vec<Component>,
}

impl Fingerprint {
    /// Hashes the components, in their order.
    pub fn of(components: Vec<Component>) -> Self {
        let content = hash("op/1", &components, KeyScope::Both);
        if components.iter().all(|component| component.scope == KeyScope::Both) {
            return Self { digest: content, content, components };
        }
        let mut hasher = KeyHasher::new("op-selected/1");
        hasher.digest(&content).digest(&hash("selectors/1", &components, KeyScope::Definition));
        Self { digest: hasher.finish(), content, components }
    }
}

// One field per call would cost more than the hashing: they are laid out first, each with its length before it.
fn hash(domain: &'static str, components: &[Component], scope: KeyScope) -> Digest {
    let mut fields = Vec::with_capacity(1024);
    for component in components.iter().filter(|component| component.scope == scope) {
        for text in [component.name.as_ref(), &component.value] {
            fields.extend_from_slice(&(text.len() as u64).to_le_bytes());
            fields.extend_from_slice(text.as_bytes());
        }
    }
    let mut hasher = KeyHasher::new(domain);
    hasher.bytes(&fields);
    hasher.finish()
}

/// One execution of a vertex.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What to do.
    pub op: &'a Op,
    /// For whom; of two builds that share this execution, the one that came first.
    pub origin: &'a Origin,
    /// The content key, or another unique name for what is being made if that is not known yet.
    pub key: &'a Digest,
    /// The definition key: what provenances of other steps call this one as an input.
    pub definition: &'a Digest,
    /// Names under which an earlier build may have recorded this step, best first (see `step`).
    pub names: &'a [Digest],
    /// The step to name in events.
    pub step: StepId,
    /// Receives log output and transfers. `StepStarted` and `StepFinished` are the solver's to send. Every build that
    /// shares this execution is told, each under its own step.
    pub reporter: &'a Reporter,
}

/// What an execution gave.
#[derive(Clone, Debug)]
pub struct Executed<T> {
    /// All outputs of the vertex, in order.
    pub outputs: Vec<T>,
    /// What its processes took, if it ran any.
    pub resources: Option<Resources>,
    /// Whether the outputs have a name yet.
    pub naming: Naming,
}

/// When it is known what an execution made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Naming {
    /// Now.
    Done,
    /// Once [`Worker::settle`] returns, and the inputs have a name.
    Pending,
}

impl<T> From<Vec<T>> for Executed<T> {
    fn from(outputs: Vec<T>) -> Self {
        Self { outputs, resources: None, naming: Naming::Done }
    }
}

/// Knows what ops mean: names them, executes them, and says what one can see of its inputs.
pub trait Worker: Send + Sync + 'static {
    /// A result: a handle that is cheap to clone, such as a snapshot's id. Holding one keeps the result usable.
    type Output: Clone + Send + Sync + 'static;
    /// Why something failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Names an op by [`Op::components`] and whatever the outside world adds to it (the tree digest of local files).
    /// Never executes anything, and downloads only what nothing but its content names; called once for each vertex that the targets need, several at once.
    fn fingerprint(&self, op: &Op) -> impl Future<Output = Result<Fingerprint, Self::Error>> + Send;

    /// Names what `op` can see of `output`, its input number `input`, for the content key. Selectors
    /// ([`KeyScope::Definition`]) are in no content key, so this must cover, for each place where the op refers to this
    /// input and in the op's order, the content and the names that the op can observe there. Two outputs of
    /// the same identity must be interchangeable for the op.
    fn identity(
        &self,
        op: &Op,
        input: usize,
        output: &Self::Output,
    ) -> impl Future<Output = Result<Digest, Self::Error>> + Send;

    /// Makes the outputs of a vertex. Called when nothing is known under either key, while no other task of this
    /// solver makes the same, and (for ops that need one) with a slot taken; or, if an input has no name yet, when it is
    /// unlikely that anything is known.
    fn execute(
        &self,
        task: Task<'_>,
        inputs: &[Self::Output],
    ) -> impl Future<Output = Result<Executed<Self::Output>, Self::Error>> + Send;

    /// Waits until the outputs of an execution that left its [`Naming`] pending can be named and recorded. Before, they are
    /// only given to [`Worker::execute`], for ops that [can begin](Op::can_begin_on) on such an input.
    fn settle(&self, _outputs: &[Self::Output]) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}
