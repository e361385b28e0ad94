//! What each check costs, measured beside the alternatives: a load client, a meter of CPU time, sample answers.
//!
//! Numbers of different runs are not comparable on a shared machine; ratios within one run are.

#![expect(clippy::indexing_slicing, reason = "sample answers are built where they are read")]

pub mod answers;
pub mod load;
pub mod meter;
