-- How long people take to acknowledge, without a walk over the whole log. Written by people's
-- acknowledgements only, so uploads pay nothing for it.
CREATE INDEX alert_change_acknowledged ON alert_change (at_ms, alert_id, customer_id)
    WHERE transition = 'acknowledged';
