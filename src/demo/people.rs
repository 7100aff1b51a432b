//! Who wears the simulated watches. None of these people, homes and hospitals exists.

/// Watches take only numbers for the ids of organisations and people.
struct Org {
    customer_id: u32,
    customer_name: &'static str,
    org_id: u32,
    org_name: &'static str,
}

const NEVERLAND: (u32, &str) = (9_001, "Neverland Care (demo)");
const CLOUDS: (u32, &str) = (9_002, "云上康养集团（演示）");

const fn org((customer_id, customer_name): (u32, &'static str), org_id: u32, org_name: &'static str) -> Org {
    Org { customer_id, customer_name, org_id, org_name }
}

/// Two customers, with houses of different size.
const ORGS: [Org; 6] = [
    org(NEVERLAND, 900_101, "Erewhon House"),
    org(CLOUDS, 900_201, "桃花源养老院"),
    org(NEVERLAND, 900_102, "Brigadoon Ward"),
    org(CLOUDS, 900_202, "星河护理站"),
    org(NEVERLAND, 900_101, "Erewhon House"),
    org(CLOUDS, 900_201, "桃花源养老院"),
];

/// What forms and textbooks call people.
const ENGLISH: [&str; 8] = [
    "Jane Doe",
    "John Roe",
    "Ann Other",
    "Joe Bloggs",
    "Sam Sample",
    "Eve Example",
    "Max Dummy",
    "Pat Nobody",
];
const CHINESE: [&str; 8] = ["张三", "李四", "王五", "赵六", "孙七", "周八", "吴九", "郑十"];

/// The serial of a watch, counted from 0. No real watch has one like it.
pub fn serial(watch: u32) -> String {
    format!("DEMO{:05}", watch + 1)
}

/// Who wears which watch, as `bindings import` takes it.
pub fn bindings(watches: u32) -> String {
    let mut csv = String::from("device_sn,customer_id,customer_name,org_id,org_name,person_id,person_name\n");
    for watch in 0..watches {
        let index = watch as usize;
        let org = &ORGS[index % ORGS.len()];
        let names = if org.customer_id == CLOUDS.0 { &CHINESE } else { &ENGLISH };
        let name = names[index / ORGS.len() % names.len()];
        csv.push_str(&format!(
            "{},{},{},{},{},{},{name} {}\n",
            serial(watch),
            org.customer_id,
            org.customer_name,
            org.org_id,
            org.org_name,
            9_100_000 + watch,
            watch + 1,
        ));
    }
    csv
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_has_a_name_of_their_own_and_both_customers_have_houses() {
        let csv = bindings(super::super::WATCHES_MAX);
        let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
        assert!(rows.iter().all(|row| row.len() == 7));
        let distinct = |column: usize| rows.iter().map(|row| row[column]).collect::<HashSet<_>>().len();
        assert_eq!([0, 1, 3, 4, 5, 6].map(distinct), [2_000, 2, 4, 4, 2_000, 2_000]);
        let ids = [1, 3, 5];
        assert!(rows.iter().all(|row| ids.iter().all(|id| row[*id].parse::<u32>().is_ok())));
    }
}
