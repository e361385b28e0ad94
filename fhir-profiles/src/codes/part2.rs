//! The shipped lists of codes that say "substance use disorder care": the start of Part 2 labelling, not its whole.
//!
//! Provenance decides what is a Part 2 record (42 CFR 2.12), a code alone does not; where the source of a record is
//! not known, these lists err towards protection.

use super::systems::{HCPCS, ICD9CM, ICD9PCS, ICD10CM, ICD10PCS, LOINC, MS_DRG, RXNORM, SNOMED};
use super::{CodeEntry, CodeList, Date, Dates};
use crate::label::{Label, LabelSet};

/// The edition of the shipped lists.
pub const PART2_VERSION: &str = "2026-11";

/// The shipped Part 2 lists: claims codes, then clinical codes.
pub fn part2_lists() -> Vec<CodeList> {
    let labels = LabelSet::EMPTY.with(Label::PART2).with(Label::SUD);
    vec![
        CodeList {
            name: "part2-claims".into(),
            version: PART2_VERSION.into(),
            source: "CMS Beneficiary FHIR Data Server, security_labels.yml at 62b2d2e (CC0-1.0), without CPT".into(),
            labels,
            entries: entries(CLAIMS),
        },
        CodeList {
            name: "part2-clinical".into(),
            version: PART2_VERSION.into(),
            source: "RxNorm ingredients, LOINC screens, CMS HCPCS and SNOMED CT findings of substance use".into(),
            labels,
            entries: entries(CLINICAL),
        },
    ]
}

/// A code system, the first and the last day of service, and the codes, separated by blanks.
type Group = (&'static str, Date, Date, &'static str);

fn entries(groups: &[Group]) -> Vec<CodeEntry> {
    let of_group = |(system, from, to, codes): &Group| {
        let (system, dates) = (*system, Dates::new(*from, *to));
        codes
            .split(' ')
            .map(move |code| CodeEntry { system: system.into(), code: code.into(), dates })
            .collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// What the shared list of CMS lacks. Medications whose labelled use is opioid or alcohol use disorder; drug and
/// alcohol screens; bundles of opioid treatment programs; findings. Opioids for pain are left out: prescribing one is
/// not substance use disorder treatment.
const CLINICAL: &[Group] = &[
    // buprenorphine, methadone, naltrexone, naloxone, disulfiram, acamprosate (RxNorm ingredients)
    (RXNORM, Date::MIN, Date::MAX, "1819 6813 7243 7242 3554 82819"),
    // AUDIT-C, DAST-10
    (LOINC, Date::MIN, Date::MAX, "75626-2 82667-7"),
    // buprenorphine and naltrexone by injection or implant (CMS HCPCS level II)
    (HCPCS, Date::MIN, Date::MAX, "J0570 J0571 J0572 J0573 J0574 J0575 J2315 Q9991 Q9992"),
    // misuses drugs, unhealthy alcohol drinking behaviour
    (SNOMED, Date::MIN, Date::MAX, "361055000 10939881000119105"),
];

/// Generated from the source named above: 720 codes, grouped by system and dates.
#[rustfmt::skip]
const CLAIMS: &[Group] = &[
    (
        HCPCS,
        Date::MIN,
        Date::MAX,
        "G2011 G2067 G2068 G2069 G2070 G2071 G2072 G2073 G2074 G2075 G2076 G2077 G2078 G2079 G2080 G2086 \
         G2087 G2088 G2172 G9562 G9578 G9584 G9621 H0005 H0006 H0007 H0008 H0009 H0010 H0011 H0012 H0013 \
         H0014 H0015 H0020 H0034 H0047 H0050 H2035 H2036 J0570 M1034 M1035 Q9991 Q9992 S9475 T1006 T1007 \
         T1008 T1009 T1010 T1011 T1012",
    ),
    (
        HCPCS,
        Date::new(2021, 11, 4),
        Date::MAX,
        "G1028 G2215 G2216",
    ),
    (
        HCPCS,
        Date::new(2024, 1, 1),
        Date::MAX,
        "G0137",
    ),
    (
        HCPCS,
        Date::new(2025, 1, 1),
        Date::MAX,
        "G0532 G0533 G0534 G0535 G0536",
    ),
    (
        ICD10CM,
        Date::MIN,
        Date::MAX,
        "F10.10 F10.120 F10.121 F10.129 F10.14 F10.150 F10.151 F10.159 F10.180 F10.181 F10.182 F10.188 \
         F10.19 F10.20 F10.21 F10.220 F10.221 F10.229 F10.230 F10.231 F10.232 F10.239 F10.24 F10.250 \
         F10.251 F10.259 F10.26 F10.27 F10.280 F10.281 F10.282 F10.288 F10.29 F10.920 F10.921 F10.929 \
         F10.94 F10.950 F10.951 F10.959 F10.96 F10.97 F10.980 F10.981 F10.982 F10.988 F10.99 F11.10 \
         F11.120 F11.121 F11.122 F11.129 F11.14 F11.150 F11.151 F11.159 F11.181 F11.182 F11.188 F11.19 \
         F11.20 F11.21 F11.220 F11.221 F11.222 F11.229 F11.23 F11.24 F11.250 F11.251 F11.259 F11.281 \
         F11.282 F11.288 F11.29 F11.90 F11.920 F11.921 F11.922 F11.929 F11.93 F11.94 F11.950 F11.951 \
         F11.959 F11.981 F11.982 F11.988 F11.99 F12.10 F12.120 F12.121 F12.122 F12.129 F12.150 F12.151 \
         F12.159 F12.180 F12.188 F12.19 F12.20 F12.21 F12.220 F12.221 F12.222 F12.229 F12.250 F12.251 \
         F12.259 F12.280 F12.288 F12.29 F12.90 F12.920 F12.921 F12.922 F12.929 F12.950 F12.951 F12.959 \
         F12.980 F12.988 F12.99 F13.10 F13.120 F13.121 F13.129 F13.14 F13.150 F13.151 F13.159 F13.180 \
         F13.181 F13.182 F13.188 F13.19 F13.20 F13.21 F13.220 F13.221 F13.229 F13.230 F13.231 F13.232 \
         F13.239 F13.24 F13.250 F13.251 F13.259 F13.26 F13.27 F13.280 F13.281 F13.282 F13.288 F13.29 \
         F13.90 F13.920 F13.921 F13.929 F13.930 F13.931 F13.932 F13.939 F13.94 F13.950 F13.951 F13.959 \
         F13.96 F13.97 F13.980 F13.981 F13.982 F13.988 F13.99 F14.10 F14.120 F14.121 F14.122 F14.129 \
         F14.14 F14.150 F14.151 F14.159 F14.180 F14.181 F14.182 F14.188 F14.19 F14.20 F14.21 F14.220 \
         F14.221 F14.222 F14.229 F14.23 F14.24 F14.250 F14.251 F14.259 F14.280 F14.281 F14.282 F14.288 \
         F14.29 F14.90 F14.920 F14.921 F14.922 F14.929 F14.94 F14.950 F14.951 F14.959 F14.980 F14.981 \
         F14.982 F14.988 F14.99 F15.10 F15.120 F15.121 F15.122 F15.129 F15.14 F15.150 F15.151 F15.159 \
         F15.180 F15.181 F15.182 F15.188 F15.19 F15.20 F15.21 F15.220 F15.221 F15.222 F15.229 F15.23 \
         F15.24 F15.250 F15.251 F15.259 F15.280 F15.281 F15.282 F15.288 F15.29 F15.90 F15.920 F15.921 \
         F15.922 F15.929 F15.93 F15.94 F15.950 F15.951 F15.959 F15.980 F15.981 F15.982 F15.988 F15.99 \
         F16.10 F16.120 F16.121 F16.122 F16.129 F16.14 F16.150 F16.151 F16.159 F16.180 F16.183 F16.188 \
         F16.19 F16.20 F16.21 F16.220 F16.221 F16.229 F16.24 F16.250 F16.251 F16.259 F16.280 F16.283 \
         F16.288 F16.29 F16.90 F16.920 F16.921 F16.929 F16.94 F16.950 F16.951 F16.959 F16.980 F16.983 \
         F16.988 F16.99 F18.10 F18.120 F18.121 F18.129 F18.14 F18.150 F18.151 F18.159 F18.17 F18.180 \
         F18.188 F18.19 F18.20 F18.21 F18.220 F18.221 F18.229 F18.24 F18.250 F18.251 F18.259 F18.27 \
         F18.280 F18.288 F18.29 F18.90 F18.920 F18.921 F18.929 F18.94 F18.950 F18.951 F18.959 F18.97 \
         F18.980 F18.988 F18.99 F19.10 F19.120 F19.121 F19.122 F19.129 F19.14 F19.150 F19.151 F19.159 \
         F19.16 F19.17 F19.180 F19.181 F19.182 F19.188 F19.19 F19.20 F19.21 F19.220 F19.221 F19.222 \
         F19.229 F19.230 F19.231 F19.232 F19.239 F19.24 F19.250 F19.251 F19.259 F19.26 F19.27 F19.280 \
         F19.281 F19.282 F19.288 F19.29 F19.90 F19.920 F19.921 F19.922 F19.929 F19.930 F19.931 F19.932 \
         F19.939 F19.94 F19.950 F19.951 F19.959 F19.96 F19.97 F19.980 F19.981 F19.982 F19.988 F19.99 \
         F55.0 F55.1 F55.2 F55.3 F55.4 F55.8 R78.0 Z71.41 Z71.51",
    ),
    (
        ICD10CM,
        Date::new(2017, 1, 1),
        Date::MAX,
        "F10.11 F11.11 F12.11 F13.11 F14.11 F15.11 F16.11 F18.11 F19.11",
    ),
    (
        ICD10CM,
        Date::new(2018, 1, 1),
        Date::MAX,
        "F12.23 F12.93",
    ),
    (
        ICD10CM,
        Date::new(2020, 1, 1),
        Date::MAX,
        "F10.130 F10.131 F10.132 F10.139 F10.930 F10.931 F10.932 F10.939 F11.13 F12.13 F13.130 F13.131 \
         F13.132 F13.139 F14.13 F14.93 F15.13 F19.130 F19.131 F19.132 F19.139",
    ),
    (
        ICD10CM,
        Date::new(2022, 1, 1),
        Date::MAX,
        "F10.90 F10.91 F11.91 F12.91 F13.91 F14.91 F15.91 F16.91 F18.91 F19.91",
    ),
    (
        ICD10PCS,
        Date::MIN,
        Date::MAX,
        "HZ2ZZZZ HZ30ZZZ HZ31ZZZ HZ32ZZZ HZ33ZZZ HZ34ZZZ HZ35ZZZ HZ36ZZZ HZ37ZZZ HZ38ZZZ HZ39ZZZ HZ3BZZZ \
         HZ40ZZZ HZ41ZZZ HZ42ZZZ HZ43ZZZ HZ44ZZZ HZ45ZZZ HZ46ZZZ HZ47ZZZ HZ48ZZZ HZ49ZZZ HZ4BZZZ HZ50ZZZ \
         HZ51ZZZ HZ52ZZZ HZ53ZZZ HZ54ZZZ HZ55ZZZ HZ56ZZZ HZ57ZZZ HZ58ZZZ HZ59ZZZ HZ5BZZZ HZ5CZZZ HZ5DZZZ \
         HZ63ZZZ HZ80ZZZ HZ81ZZZ HZ82ZZZ HZ83ZZZ HZ84ZZZ HZ85ZZZ HZ86ZZZ HZ87ZZZ HZ88ZZZ HZ89ZZZ HZ90ZZZ \
         HZ91ZZZ HZ92ZZZ HZ93ZZZ HZ94ZZZ HZ95ZZZ HZ96ZZZ HZ97ZZZ HZ98ZZZ HZ99ZZZ",
    ),
    (
        ICD9CM,
        Date::MIN,
        Date::MAX,
        "291 291.0 291.1 291.2 291.3 291.4 291.5 291.81 291.82 291.89 291.9 292 292.0 292.1 292.11 292.12 \
         292.2 292.8 292.81 292.82 292.83 292.84 292.85 292.89 292.9 303 303.0 303.00 303.01 303.02 \
         303.03 303.9 303.90 303.91 303.92 303.93 304 304.0 304.00 304.01 304.02 304.03 304.1 304.10 \
         304.11 304.12 304.13 304.2 304.20 304.21 304.22 304.23 304.3 304.30 304.31 304.32 304.33 304.4 \
         304.40 304.41 304.42 304.43 304.5 304.50 304.51 304.52 304.53 304.6 304.60 304.61 304.62 304.63 \
         304.7 304.70 304.71 304.72 304.73 304.8 304.80 304.81 304.82 304.83 304.9 304.90 304.91 304.92 \
         304.93 305 305.0 305.00 305.01 305.02 305.03 305.2 305.20 305.21 305.22 305.23 305.3 305.30 \
         305.31 305.32 305.33 305.4 305.40 305.41 305.42 305.43 305.5 305.50 305.51 305.52 305.53 305.6 \
         305.60 305.61 305.62 305.63 305.7 305.70 305.71 305.72 305.73 305.8 305.80 305.81 305.82 305.83 \
         305.9 305.90 305.91 305.92 305.93 790.3 V65.42",
    ),
    (
        ICD9PCS,
        Date::MIN,
        Date::MAX,
        "94.45 94.46 94.53 94.54 94.6 94.61 94.62 94.63 94.64 94.65 94.66 94.67 94.68 94.69",
    ),
    (
        MS_DRG,
        Date::MIN,
        Date::new(2007, 10, 1),
        "522 523",
    ),
    (
        MS_DRG,
        Date::MIN,
        Date::MAX,
        "895 896 897",
    ),
];
