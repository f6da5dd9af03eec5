-- Jobs that are to be ended without their code: which ones, since when, and which of them need it after all.

ALTER TABLE scheduler.jobs
    ADD COLUMN terminate    boolean NOT NULL DEFAULT false,
    ADD COLUMN needs_code   boolean NOT NULL DEFAULT false,
    ADD COLUMN end_asked_at timestamptz,
    ADD CONSTRAINT jobs_terminate_check CHECK (cancel OR NOT terminate);

-- From now on, for jobs whose cancel was asked for before this migration.
UPDATE scheduler.jobs SET end_asked_at = now() WHERE cancel AND state <= 3;

CREATE FUNCTION scheduler.served(agent text, queue text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT EXISTS (
    SELECT FROM scheduler.runners AS runner
    WHERE NOT runner.expired AND NOT runner.draining
        AND (served.agent = ANY (runner.agents) OR '*' = ANY (runner.agents))
        AND (cardinality(runner.queues) = 0 OR served.queue = ANY (runner.queues))
)
$$;

CREATE INDEX jobs_ending ON scheduler.jobs ((NOT terminate), agent, queue, since, id)
    WHERE state = 1 AND cancel AND (terminate OR NOT needs_code);
CREATE INDEX jobs_terminating ON scheduler.jobs (end_asked_at) WHERE state = 2 AND terminate;
CREATE INDEX jobs_unended ON scheduler.jobs (tenant, end_asked_at, id) WHERE cancel AND state <= 3;

CREATE OR REPLACE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork, job.start_after, job.terminate,
    job.needs_code, job.end_asked_at
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;
