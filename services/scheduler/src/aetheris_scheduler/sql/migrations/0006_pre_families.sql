-- Who submitted a job, whose history it begins with, and in which order the children of a job have ended.

ALTER TABLE scheduler.jobs
    ADD COLUMN actor text NOT NULL DEFAULT '',
    ADD COLUMN fork  jsonb;

CREATE OR REPLACE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;

-- Whoever ends a child holds its parent's row, so numbers become visible in their order and none is skipped:
-- a parent that has read up to one never finds a smaller one later.
CREATE TABLE scheduler.child_ends (
    number bigint NOT NULL,
    parent uuid   NOT NULL,
    child  uuid   NOT NULL,
    CONSTRAINT child_ends_pkey PRIMARY KEY (parent, number)
);
