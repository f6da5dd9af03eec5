-- When a job may start at the earliest. Until then it is parked with a timer for that moment, and only the timer or an
-- order to end it makes it ready.

ALTER TABLE scheduler.jobs ADD COLUMN start_after timestamptz;

UPDATE scheduler.jobs SET start_after = wake_at
WHERE state = 3 AND lease = 0 AND wake_at IS NOT NULL AND park_reason = 'not before its time'
    AND scheduler.by_index(id);

CREATE OR REPLACE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork, job.start_after
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;
