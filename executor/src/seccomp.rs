//! Which system calls may a sandboxed process make?
//!
//! Docker's default profile, as a classic BPF program of our own making. A list that is compared one call after the
//! other costs the kernel half a millisecond to check and compile for each sandbox; here runs of numbers with the same
//! answer are found by binary search, which makes a tenth of it, and one program covers the machine's 32-bit personality
//! too (`linux/386` images on `amd64`), which filter libraries for one architecture cannot.
//!
//! | call | answer |
//! |---|---|
//! | in the table | allowed |
//! | known, not in the table | `EPERM`, as Docker answers |
//! | newer than the table | `ENOSYS`, so that libc falls back to an older one |
//! | `clone3` | `ENOSYS`: its flags are behind a pointer, out of a filter's reach |
//! | `clone` | allowed without new namespaces |
//! | `personality` | allowed for the five harmless values |
//! | `socket` | allowed except `AF_ALG` and `AF_VSOCK` |

mod table;

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, sock_filter,
};

use table::CALLS;

/// `AUDIT_ARCH_*` of the machine and of its 32-bit personality, with their columns in the table.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [(u32, usize); 2] = [(0xc000_003e, 0), (0x4000_0003, 1)];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [(u32, usize); 2] = [(0xc000_00b7, 2), (0x4000_0028, 3)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system call filter knows x86-64 and arm64");

// Offsets in `struct seccomp_data`, little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// All `CLONE_NEW*` that fit `clone`'s first argument.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;

/// What happens to a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Allow,
    Forbidden,
    Unknown,
    Clone,
    Personality,
    Socket,
}

/// The program, ready to be installed.
pub(crate) fn default_filter() -> Vec<sock_filter> {
    let [(machine, column), (personality, small_column)] = ARCHITECTURES;
    let native = search(&runs(column));
    let small = search(&runs(small_column));
    let mut program = vec![load(ARCHITECTURE), jump(BPF_JEQ, machine, 0, 2), load(NUMBER), skip(2 + small.len() + 1)];
    program.push(jump(BPF_JEQ, personality, 1, 0));
    program.push(answer(Answer::Unknown));
    program.push(load(NUMBER));
    program.extend(small);
    program.extend(native);
    program
}

/// The numbers at which the answer changes, ascending; the first is 0.
fn runs(column: usize) -> Vec<(u32, Answer)> {
    let mut known: Vec<(u32, Answer)> = CALLS
        .iter()
        .filter_map(|(name, numbers)| {
            let answer = match *name {
                "clone" => Answer::Clone,
                "clone3" => Answer::Unknown,
                "personality" => Answer::Personality,
                "socket" => Answer::Socket,
                _ => Answer::Allow,
            };
            Some((u32::try_from(numbers[column]).ok()?, answer))
        })
        .collect();
    known.sort_unstable_by_key(|(number, _)| *number);
    known.dedup_by_key(|(number, _)| *number);
    // Arm has a few calls of its own far beyond the others.
    let newest = known.iter().map(|(number, _)| *number).filter(|number| *number < 0xf_0000).max().unwrap_or(0);
    let mut runs: Vec<(u32, Answer)> = Vec::new();
    let mut add = |start, answer| {
        if runs.last().is_none_or(|(_, last)| *last != answer) {
            runs.push((start, answer));
        }
    };
    let mut next = 0;
    for (number, answer) in known {
        if number > next {
            add(next, if next > newest { Answer::Unknown } else { Answer::Forbidden });
        }
        add(number, answer);
        next = number + 1;
    }
    add(next, Answer::Unknown);
    runs
}

/// A binary search over the runs, with one block per answer behind it, which all branches share. Preorder: the lower
/// half of a branch follows it directly.
fn search(runs: &[(u32, Answer)]) -> Vec<sock_filter> {
    let mut blocks = Vec::new();
    let mut starts: Vec<(Answer, usize)> = Vec::new();
    // Every run but the first is the right side of exactly one comparison.
    let comparisons = runs.len() - 1;
    for (_, answer) in runs {
        if !starts.iter().any(|(known, _)| known == answer) {
            starts.push((*answer, comparisons + blocks.len()));
            blocks.extend(block(*answer));
        }
    }
    let mut program = Vec::new();
    compare(runs, &starts, &mut program);
    program.extend(blocks);
    program
}

fn compare(runs: &[(u32, Answer)], blocks: &[(Answer, usize)], program: &mut Vec<sock_filter>) {
    if runs.len() == 1 {
        return;
    }
    let (left, right) = runs.split_at(runs.len() / 2);
    let here = program.len();
    program.push(jump(BPF_JGE, right[0].0, 0, 0));
    let mut distance = |side: &[(u32, Answer)]| {
        let target = match side {
            [(_, answer)] => blocks.iter().find(|(known, _)| known == answer).expect("every answer has a block").1,
            _ => program.len(),
        };
        compare(side, blocks, program);
        u8::try_from(target - here - 1).expect("a table of a few hundred calls has fewer than 250 runs")
    };
    let (below, above) = (distance(left), distance(right));
    (program[here].jf, program[here].jt) = (below, above);
}

/// What is done once the answer is known; the accumulator is free.
fn block(what: Answer) -> Vec<sock_filter> {
    match what {
        Answer::Clone => vec![
            load(FIRST_ARGUMENT),
            jump(BPF_JSET, NEW_NAMESPACES, 0, 1),
            answer(Answer::Forbidden),
            answer(Answer::Allow),
        ],
        Answer::Personality => one_of(&PERSONALITIES, Answer::Allow, Answer::Forbidden),
        Answer::Socket => one_of(&[AF_ALG, AF_VSOCK], Answer::Forbidden, Answer::Allow),
        plain => vec![answer(plain)],
    }
}

/// Looks at the low half of the first argument, which is all that the kernel looks at for these calls.
fn one_of(values: &[u32], then: Answer, otherwise: Answer) -> Vec<sock_filter> {
    let mut program = vec![load(FIRST_ARGUMENT)];
    for (index, value) in values.iter().enumerate() {
        let distance = u8::try_from(values.len() - index).expect("the lists have a handful of values");
        program.push(jump(BPF_JEQ, *value, distance, 0));
    }
    program.extend([answer(otherwise), answer(then)]);
    program
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("operation codes are small"), jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | condition | BPF_K, then, otherwise, value)
}

fn skip(distance: usize) -> sock_filter {
    instruction(BPF_JMP | BPF_JA, 0, 0, u32::try_from(distance).expect("the program is short"))
}

fn answer(answer: Answer) -> sock_filter {
    let value = match answer {
        Answer::Allow => SECCOMP_RET_ALLOW,
        Answer::Unknown => SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        _ => SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
    };
    instruction(BPF_RET | BPF_K, 0, 0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The few instructions that are used, executed.
    fn run(program: &[sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let now = program[at];
            at += 1;
            let code = u32::from(now.code);
            let taken = |condition: bool| usize::from(if condition { now.jt } else { now.jf });
            if code == BPF_LD | BPF_W | BPF_ABS {
                accumulator = match now.k {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    FIRST_ARGUMENT => argument,
                    other => panic!("load from {other}"),
                };
            } else if code == BPF_JMP | BPF_JA {
                at += now.k as usize;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += taken(accumulator == now.k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                at += taken(accumulator >= now.k);
            } else if code == BPF_JMP | BPF_JSET | BPF_K {
                at += taken(accumulator & now.k != 0);
            } else if code == BPF_RET | BPF_K {
                return now.k;
            } else {
                panic!("operation {code}");
            }
        }
    }

    const ALLOW: u32 = SECCOMP_RET_ALLOW;
    const EPERM: u32 = SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = SECCOMP_RET_ERRNO | 38;

    #[test]
    fn every_number_gets_the_tables_answer_on_both_personalities() {
        let program = default_filter();
        assert!(program.len() < 250, "{} instructions", program.len());
        for (architecture, column) in ARCHITECTURES {
            let newest = CALLS.iter().map(|(_, numbers)| numbers[column]).filter(|n| *n < 0xf_0000).max().unwrap();
            for number in (0..1000).chain([0xf_0002, 0x4000_0001, i32::MAX]) {
                let known = CALLS.iter().find(|(_, numbers)| numbers[column] == number).map(|(name, _)| *name);
                let expected = match known {
                    Some("clone3") => ENOSYS,
                    Some(_) => ALLOW,
                    None if number > newest => ENOSYS,
                    None => EPERM,
                };
                let found = run(&program, architecture, number.unsigned_abs(), 0);
                assert_eq!(found, expected, "{architecture:x} {number} {known:?}");
            }
        }
        assert_eq!(run(&program, 0x1234, 0, 0), ENOSYS);
    }

    #[test]
    fn arguments_decide_where_the_profile_says_so() {
        let program = default_filter();
        let (machine, column) = ARCHITECTURES[0];
        let number = |name| {
            let (_, numbers) = CALLS.iter().find(|(other, _)| *other == name).unwrap();
            numbers[column].unsigned_abs()
        };
        for (name, argument, expected) in [
            ("clone", 0x0100_0011, ALLOW),
            ("clone", 0x1000_0011, EPERM),
            ("clone", 0x0002_0000, EPERM),
            ("personality", 8, ALLOW),
            ("personality", 0xffff_ffff, ALLOW),
            ("personality", 0x0004_0000, EPERM),
            ("socket", 2, ALLOW),
            ("socket", 16, ALLOW),
            ("socket", 38, EPERM),
            ("socket", 40, EPERM),
            ("socket", 44, ALLOW),
        ] {
            assert_eq!(run(&program, machine, number(name), argument), expected, "{name} {argument:x}");
        }
    }
}
