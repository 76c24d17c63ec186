//! Artifacts of jobs.
