//! Finding a job by the path agents and people use.
