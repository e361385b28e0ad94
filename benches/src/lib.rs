//! What each check costs, measured beside the alternatives: a load client, a meter of CPU time, sample answers.
//!
//! Numbers of different runs are not comparable on a shared machine; ratios within one run are.

pub mod answers;
pub mod load;
pub mod meter;
