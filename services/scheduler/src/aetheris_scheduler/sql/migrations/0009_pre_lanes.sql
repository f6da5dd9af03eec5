-- Which version of its agent's code held a job last, which jobs only that version may hold, and what is suspected of the
-- death of a session. Ready jobs stand in lanes: an agent, a queue, a version and a tenant.

ALTER TABLE scheduler.jobs
    ADD COLUMN version text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN pinned  boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT jobs_pinned_check CHECK (version <> '' OR NOT pinned);

ALTER TABLE scheduler.runners
    ADD COLUMN versions jsonb  NOT NULL DEFAULT '{}',
    ADD COLUMN suspects uuid[],
    ADD COLUMN lost     uuid[] NOT NULL DEFAULT '{}';

-- A ready job's place in its lane. A job with a priority of one more is placed as if it had come 10 seconds earlier, so
-- that a job waits no longer than that for later ones that are more urgent.
CREATE FUNCTION scheduler.place(since timestamptz, priority smallint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT since - priority * interval '10 seconds' $$;

-- The version that a job waits for; empty where any may hold it.
CREATE FUNCTION scheduler.pinned_to(pinned boolean, version text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN pinned THEN version ELSE '' END $$;

-- Whether a connected runner offers this version of the agent.
CREATE FUNCTION scheduler.offered(agent text, version text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT EXISTS (
    SELECT FROM scheduler.runners AS runner
    WHERE NOT runner.expired AND NOT runner.draining AND runner.versions ->> offered.agent = offered.version
)
$$;

-- Whether a runner with the version `mine` of the agent is given a job that `version` held last. Empty: any version. The
-- job waits for its own version only while a connected runner offers it, unless it is pinned.
CREATE FUNCTION scheduler.takes(agent text, version text, pinned boolean, mine text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT CASE
    WHEN pinned THEN mine = version
    WHEN version = '' OR mine = '' OR mine = version THEN true
    ELSE NOT scheduler.offered(agent, version)
END
$$;

-- Whether a connected runner takes jobs of this agent, and of this version if it is not empty, from this queue.
CREATE FUNCTION scheduler.served(agent text, queue text, version text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT EXISTS (
    SELECT FROM scheduler.runners AS runner
    WHERE NOT runner.expired AND NOT runner.draining
        AND (served.agent = ANY (runner.agents) OR '*' = ANY (runner.agents))
        AND (cardinality(runner.queues) = 0 OR served.queue = ANY (runner.queues))
        AND (served.version = '' OR runner.versions ->> served.agent = served.version)
)
$$;

CREATE INDEX jobs_claimable ON scheduler.jobs
    (agent, queue, version, tenant, scheduler.place(since, priority), id)
    WHERE state = 1 AND NOT paused AND crash_count < 2;
CREATE INDEX jobs_alone ON scheduler.jobs (scheduler.place(since, priority), id)
    WHERE state = 1 AND NOT paused AND crash_count >= 2;
CREATE INDEX jobs_pinned ON scheduler.jobs (agent, version, state, cancel, id) WHERE pinned AND state IN (1, 3);
CREATE INDEX jobs_endable ON scheduler.jobs
    ((NOT terminate), agent, queue, scheduler.pinned_to(pinned, version), since, id)
    WHERE state = 1 AND cancel AND (terminate OR NOT needs_code);

CREATE OR REPLACE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork, job.start_after, job.terminate,
    job.needs_code, job.end_asked_at, job.version, job.pinned
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;
