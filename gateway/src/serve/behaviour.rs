//! The settings of behaviour analytics from a configuration.

use crate::behaviour::{Answer, Rule, Rules, Settings};
use crate::config::{Risk, RiskAnswer, RiskMode, RiskRule};

/// What `risk` asks for.
pub(crate) fn settings(risk: &Risk) -> Settings {
    let scores = &risk.scores;
    Settings {
        shadow: scores.mode == RiskMode::Shadow,
        throttle_at: f64::from(scores.throttle_at.get()),
        step_up_at: f64::from(scores.step_up_at.get()),
        terminate_at: f64::from(scores.terminate_at.get()),
        rules: Rules {
            mass_access: Some(rule(&risk.mass_access)),
            denied_requests: Some(rule(&risk.denied_requests)),
            part2_access: Some(rule(&risk.part2_access)),
            token_sharing: Some(rule(&risk.token_sharing)),
            emergency_access: Some(rule(&risk.emergency_access)),
        },
        ..Settings::default()
    }
}

fn rule(rule: &RiskRule) -> Rule {
    let answer = match rule.answer {
        RiskAnswer::Alert => Answer::Escalate,
        RiskAnswer::Throttle => Answer::Throttle,
        RiskAnswer::StepUp => Answer::StepUp,
        RiskAnswer::Terminate => Answer::Terminate,
    };
    Rule { threshold: rule.threshold.get(), window: rule.window, answer }
}
