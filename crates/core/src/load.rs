//! How busy an agent is, from what it measured and from what has been placed there since.
//!
//! Whole numbers in thousandths, so that both brokers and every test come to the same answer. Each figure can only make
//! an agent busier: more memory in use, more work, longer waits and more users never make it look freer.

/// What one user takes until it is measured: an estimate that the administrator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Thousandths of one CPU.
    pub cpu_milli: u32,
}

/// What an agent measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Memory that it has, in MiB; above 0.
    pub memory_total_mib: u32,
    /// Memory that new processes could have, in MiB.
    pub memory_available_mib: u32,
    /// CPUs, at least 1.
    pub cpus: u32,
    /// Share of the CPUs' time in which they worked, in thousandths: at most 1000.
    pub cpu_busy_milli: u32,
    /// Programs that run or wait for a CPU, in thousandths; 0 where that is not known.
    pub run_queue_milli: u32,
    /// Share of time in which programs waited for CPU or for memory, the larger of both, in thousandths.
    pub stall_milli: u32,
    /// Sessions that the table had there at that time.
    pub sessions: u32,
}

/// How busy an agent is with one user more, in thousandths of what it has. More than 1000 is more than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Memory.
    pub memory: u32,
    /// CPUs.
    pub cpu: u32,
    /// Waiting.
    pub stall: u32,
}

/// Agents that differ by less are equally busy: figures are never still, and among equals users are spread evenly.
const STEP_MILLI: u32 = 50;

impl Measured {
    /// Sessions that have come since; each is one user's estimate more than was measured.
    #[must_use]
    pub const fn since(&self, sessions: u32) -> u32 {
        sessions.saturating_sub(self.sessions)
    }

    /// How busy it is once one more user is there, where the table has so many sessions there now.
    #[must_use]
    pub fn busy(&self, sessions: u32, need: Need) -> Busy {
        let coming = u64::from(self.since(sessions)) + 1;
        let (total, cpus) = (u64::from(self.memory_total_mib.max(1)), u64::from(self.cpus.max(1)));
        let used = total.saturating_sub(u64::from(self.memory_available_mib));
        let memory = (used + coming * u64::from(need.memory_mib)).saturating_mul(1000) / total;
        // Work that waits for a CPU is more than what all of them can do.
        let working = (u64::from(self.cpu_busy_milli) * cpus).max(u64::from(self.run_queue_milli));
        let cpu = (working + coming * u64::from(need.cpu_milli)) / cpus;
        let narrow = |share: u64| u32::try_from(share).unwrap_or(u32::MAX);
        Busy { memory: narrow(memory), cpu: narrow(cpu), stall: self.stall_milli }
    }
}

impl Busy {
    /// All of it in one number: the scarcer of memory and CPU, and on top the time that programs wait.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.memory.max(self.cpu).saturating_add(self.stall)
    }

    /// The total as it is compared with that of others.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.total() / STEP_MILLI
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need { memory_mib: 500, cpu_milli: 100 };

    fn idle() -> Measured {
        Measured {
            memory_total_mib: 10_000,
            memory_available_mib: 8_000,
            cpus: 4,
            cpu_busy_milli: 0,
            run_queue_milli: 0,
            stall_milli: 0,
            sessions: 3,
        }
    }

    #[test]
    fn the_scarcer_of_memory_and_cpu_counts() {
        let busy = idle().busy(3, NEED);
        assert_eq!(busy, Busy { memory: 250, cpu: 25, stall: 0 });
        assert_eq!(busy.total(), 250);
        let busy = Measured { cpu_busy_milli: 900, ..idle() }.busy(3, NEED);
        assert_eq!((busy.cpu, busy.total()), (925, 925));
        let queue = Measured { cpu_busy_milli: 1000, run_queue_milli: 8_000, ..idle() };
        assert_eq!(queue.busy(3, NEED).cpu, 2_025);
        let stalls = Measured { stall_milli: 400, ..idle() };
        assert_eq!(stalls.busy(3, NEED).total(), 650);
    }

    #[test]
    fn sessions_since_then_count_as_estimated_and_ended_ones_do_not_count_back() {
        assert_eq!(idle().busy(5, NEED), Busy { memory: 350, cpu: 75, stall: 0 });
        assert_eq!(idle().busy(1, NEED), idle().busy(3, NEED));
    }

    #[test]
    fn figures_beyond_all_reason_do_no_harm() {
        let wild = Measured {
            memory_total_mib: 0,
            memory_available_mib: u32::MAX,
            cpus: 0,
            cpu_busy_milli: u32::MAX,
            run_queue_milli: u32::MAX,
            stall_milli: u32::MAX,
            sessions: 0,
        };
        let need = Need { memory_mib: u32::MAX, cpu_milli: u32::MAX };
        assert_eq!(wild.busy(u32::MAX, need).total(), u32::MAX);
    }
}
