//! `GET /api/v1/overview`: figures that many pages ask for again and again, counted once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use tokio::sync::Mutex;

use super::auth::Authenticated;
use super::error::Problem;
use super::state::ApiState;
use crate::domain::days::Days;
use crate::domain::ids::CustomerId;
use crate::domain::owner::Scope;
use crate::domain::time::UtcMillis;
use crate::storage::overview::{self, Overview};

/// Figures are given out for this long, milliseconds.
pub const FRESH_MS: i64 = 2_000;
/// And for this many times as long as counting took: however many alerts and devices there are,
/// counting keeps one read connection busy at most a twentieth of the time.
const FRESH_TIMES_COST: u32 = 20;
/// Customers whose figures are kept; with more all are counted again.
const SCOPES_MAX: usize = 1_000;

/// The figures as last counted, for each customer and for the administrator. Whoever asks while
/// they are being counted waits for the same count.
#[derive(Default)]
pub struct OverviewCache {
    slots: std::sync::Mutex<HashMap<Option<CustomerId>, Slot>>,
}

type Slot = Arc<Mutex<Option<Counted>>>;

struct Counted {
    overview: Arc<Overview>,
    cost: Duration,
}

impl Counted {
    fn is_fresh(&self, now: UtcMillis) -> bool {
        let cost_ms = i64::try_from((self.cost * FRESH_TIMES_COST).as_millis()).unwrap_or(i64::MAX);
        (0..FRESH_MS.max(cost_ms)).contains(&now.ms_since(self.overview.at))
    }
}

impl OverviewCache {
    fn slot(&self, scope: &Scope) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SCOPES_MAX {
            slots.clear();
        }
        slots.entry(scope.customer().cloned()).or_default().clone()
    }

    async fn get(&self, state: &ApiState, scope: Scope) -> Result<Arc<Overview>, Problem> {
        let slot = self.slot(&scope);
        let mut held = slot.lock().await;
        let now = state.clock.now();
        if let Some(counted) = held.as_ref().filter(|counted| counted.is_fresh(now)) {
            return Ok(counted.overview.clone());
        }
        let days = Days::at(now, &state.zone);
        let silent_after_s = state.silent_after_s();
        let (overview, cost) = state
            .readers
            .read(move |conn| {
                let begun = Instant::now();
                let overview = overview::read(conn, &scope, &days, silent_after_s)?;
                Ok((Arc::new(overview), begun.elapsed()))
            })
            .await?;
        *held = Some(Counted { overview: overview.clone(), cost });
        Ok(overview)
    }
}

pub async fn get(state: web::Data<ApiState>, caller: Authenticated) -> Result<HttpResponse, Problem> {
    let overview = state.overview.get(&state, caller.0.scope).await?;
    Ok(HttpResponse::Ok().json(&*overview))
}
