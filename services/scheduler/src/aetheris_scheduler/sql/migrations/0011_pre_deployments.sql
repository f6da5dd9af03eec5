-- The fork that goes on in the place of a failed job, and the open jobs of each version.

ALTER TABLE scheduler.jobs ADD COLUMN retried_as uuid;

-- `state + 0`: a claim asks for `state = 1`, which must not lead the planner to this index instead of that of the lanes.
CREATE INDEX jobs_versions ON scheduler.jobs (agent, version, tenant) WHERE state + 0 IN (1, 3);

CREATE OR REPLACE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork, job.start_after, job.terminate,
    job.needs_code, job.end_asked_at, job.version, job.pinned, job.retried_as
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;
