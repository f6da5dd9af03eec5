-- Who runs what, and when: jobs, and the sessions of the runners that hold them.

CREATE SCHEMA scheduler;

-- Always true, with a high declared cost: a plan that would call it for every row loses against one that uses an
-- index. Plans are made while the table is still empty and then kept, and for an empty table the planner prefers a
-- sequential scan. Every statement about jobs calls it.
CREATE FUNCTION scheduler.by_index(id uuid) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000
AS $$ BEGIN RETURN true; END $$;

-- A ready job's place in its lane. A job with a priority of one more is placed as if it had come 10 seconds earlier, so
-- that a job waits no longer than that for later ones that are more urgent.
CREATE FUNCTION scheduler.place(since timestamptz, priority smallint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT since - priority * interval '10 seconds' $$;

-- The version that a job waits for; empty where any may hold it.
CREATE FUNCTION scheduler.pinned_to(pinned boolean, version text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN pinned THEN version ELSE '' END $$;

-- One row per job, from submission on. `since` is when it came into its state: a ready job's place in the
-- order, the beginning of a lease, the end. States are those of the contract: 1 ready, 2 leased, 3 parked,
-- 4 completed, 5 failed, 6 cancelled.
CREATE TABLE scheduler.jobs (
    lease           bigint      NOT NULL DEFAULT 0,
    since           timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    wake_at         timestamptz,
    deadline        timestamptz,
    crash_count     integer     NOT NULL DEFAULT 0,
    state           smallint    NOT NULL,
    priority        smallint    NOT NULL DEFAULT 0,
    wake            boolean     NOT NULL DEFAULT false,
    cancel          boolean     NOT NULL DEFAULT false,
    paused          boolean     NOT NULL DEFAULT false,
    operator_only   boolean     NOT NULL DEFAULT false,
    progressed      boolean     NOT NULL DEFAULT false,
    id              uuid        NOT NULL,
    session         uuid,
    parent          uuid,
    tenant          text        COLLATE "C" NOT NULL,
    agent           text        COLLATE "C" NOT NULL,
    queue           text        COLLATE "C" NOT NULL,
    idempotency_key text        COLLATE "C" NOT NULL DEFAULT '',
    digest          bytea       NOT NULL,
    input           bytea       NOT NULL,
    park_reason     text        NOT NULL DEFAULT '',
    traceparent     text        NOT NULL DEFAULT '',
    cancel_reason   text        NOT NULL DEFAULT '',
    cancel_actor    text        NOT NULL DEFAULT '',
    result          bytea,
    failure         jsonb,
    -- The holder's last report of how far the job is; it counts while that lease runs.
    progress_lease    bigint NOT NULL DEFAULT 0,
    progress_fraction float8,
    progress_note     text   NOT NULL DEFAULT '',
    progress_at       timestamptz,
    actor           text        NOT NULL DEFAULT '',
    fork            jsonb,
    -- No runner holds the job before this moment, except to end it.
    start_after     timestamptz,
    -- To be ended without its code and without compensation.
    terminate       boolean     NOT NULL DEFAULT false,
    -- To be ended, but its record owes a compensation, which takes the agent's code.
    needs_code      boolean     NOT NULL DEFAULT false,
    -- When it was last asked to end.
    end_asked_at    timestamptz,
    -- The version of its agent's code that held it last.
    version         text        COLLATE "C" NOT NULL DEFAULT '',
    -- Only a runner of that version may hold it.
    pinned          boolean     NOT NULL DEFAULT false,
    -- The fork that goes on in its place, if it has failed and was retried.
    retried_as      uuid,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_state_check CHECK (state BETWEEN 1 AND 6),
    CONSTRAINT jobs_holder_check CHECK ((state = 2) = (session IS NOT NULL)),
    CONSTRAINT jobs_parked_check CHECK (state = 3 OR (wake_at IS NULL AND NOT operator_only)),
    CONSTRAINT jobs_ended_check CHECK (state >= 4 OR (result IS NULL AND failure IS NULL)),
    CONSTRAINT jobs_terminate_check CHECK (cancel OR NOT terminate),
    CONSTRAINT jobs_pinned_check CHECK (version <> '' OR NOT pinned),
    CONSTRAINT jobs_digest_check CHECK (octet_length(digest) = 32)
)
-- A job's row is written some four times. Room beside it keeps those versions on its page, and pruning
-- them is then cheap; and a table that is mostly history is vacuumed for what has changed, not for a fifth.
WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- Payloads beyond two kilobytes are compressed. lz4 takes a fifth of the time; not every server has it.
DO $$
BEGIN
    ALTER TABLE scheduler.jobs ALTER COLUMN input SET COMPRESSION lz4;
    ALTER TABLE scheduler.jobs ALTER COLUMN result SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- A tenant's idempotency key makes one job of an agent.
CREATE UNIQUE INDEX jobs_key ON scheduler.jobs (tenant, agent, idempotency_key) WHERE idempotency_key <> '';
-- Jobs that can be claimed, lane by lane, in their order.
CREATE INDEX jobs_claimable ON scheduler.jobs
    (agent, queue, version, tenant, scheduler.place(since, priority), id)
    WHERE state = 1 AND NOT paused AND crash_count < 2;
-- Jobs that were present at two crashes in a row, which their runner holds alone.
CREATE INDEX jobs_alone ON scheduler.jobs (scheduler.place(since, priority), id)
    WHERE state = 1 AND NOT paused AND crash_count >= 2;
-- Waiting jobs, counted by version.
-- `state + 0`: a claim asks for `state = 1`, which must not lead the planner to this index instead of that of the lanes.
CREATE INDEX jobs_versions ON scheduler.jobs (agent, version, tenant) WHERE state + 0 IN (1, 3);
-- Jobs that wait for a version.
CREATE INDEX jobs_pinned ON scheduler.jobs (agent, version, state, cancel, id) WHERE pinned AND state IN (1, 3);
-- What a session holds.
CREATE INDEX jobs_leased ON scheduler.jobs (session) WHERE state = 2;
-- Notices for the holders of jobs, for the scheduler that has their streams.
CREATE INDEX jobs_news ON scheduler.jobs (session) WHERE state = 2 AND (wake OR cancel OR paused);
-- Timers, by when they are due.
CREATE INDEX jobs_timers ON scheduler.jobs (wake_at) WHERE state = 3 AND wake_at IS NOT NULL;
-- Jobs that must have ended by then.
CREATE INDEX jobs_deadlines ON scheduler.jobs (deadline) WHERE deadline IS NOT NULL AND state <= 3 AND NOT cancel;
-- Lists, newest first, of one state or, merged, of several.
CREATE INDEX jobs_by_tenant ON scheduler.jobs (tenant, state, id);
CREATE INDEX jobs_by_parent ON scheduler.jobs (parent, id) WHERE parent IS NOT NULL;
-- Jobs that an operator should look at.
CREATE INDEX jobs_operator ON scheduler.jobs (tenant, since, id) WHERE operator_only;
CREATE INDEX jobs_crashing ON scheduler.jobs (tenant, since, id) WHERE crash_count > 0 AND state <= 3;
-- Jobs that any runner may end, those that are to be terminated first.
CREATE INDEX jobs_endable ON scheduler.jobs
    ((NOT terminate), agent, queue, scheduler.pinned_to(pinned, version), since, id)
    WHERE state = 1 AND cancel AND (terminate OR NOT needs_code);
-- Jobs that their holders are to terminate.
CREATE INDEX jobs_terminating ON scheduler.jobs (end_asked_at) WHERE state = 2 AND terminate;
-- Jobs that were asked to end and have not.
CREATE INDEX jobs_unended ON scheduler.jobs (tenant, end_asked_at, id) WHERE cancel AND state <= 3;

-- In which order the children of a job have ended. The transaction that ends a child locks its parent's row, so
-- numbers become visible in their order and none is skipped: a parent that has read up to one number never finds a
-- smaller one later.
CREATE TABLE scheduler.child_ends (
    number bigint NOT NULL,
    parent uuid   NOT NULL,
    child  uuid   NOT NULL,
    CONSTRAINT child_ends_pkey PRIMARY KEY (parent, number)
);

-- One row per session. No index but the key, so that renewing a lease never changes one. An expired
-- session's row stays for a while, so that a runner that comes back is told that its session expired.
CREATE TABLE scheduler.runners (
    lease_deadline timestamptz NOT NULL,
    capacity       integer     NOT NULL,
    draining       boolean     NOT NULL DEFAULT false,
    expired        boolean     NOT NULL DEFAULT false,
    session        uuid        NOT NULL,
    -- Which of its streams speaks for it. The scheduler of an older stream can no longer change the session.
    stream         uuid        NOT NULL,
    runner_id      text        COLLATE "C" NOT NULL,
    agents         text[]      NOT NULL,
    queues         text[]      NOT NULL,
    -- Agent → the version of its code.
    versions       jsonb       NOT NULL DEFAULT '{}',
    -- The jobs that are suspected of its death; NULL where none were named, and then all that it held are.
    suspects       uuid[],
    -- The jobs that it held when it expired.
    lost           uuid[]      NOT NULL DEFAULT '{}',
    CONSTRAINT runners_pkey PRIMARY KEY (session),
    CONSTRAINT runners_capacity_check CHECK (capacity > 0)
)
WITH (fillfactor = 50);

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

-- Jobs without input and result, for lists, with the runner id of their holder.
CREATE VIEW scheduler.heads AS
SELECT job.id, job.tenant, job.agent, job.queue, job.priority, job.state, job.since, job.created_at, job.started_at,
    job.lease, job.session, runner.runner_id, job.wake, job.cancel, job.cancel_reason, job.cancel_actor, job.paused,
    job.operator_only, job.progressed, job.crash_count, job.park_reason, job.wake_at, job.deadline, job.parent,
    job.idempotency_key, job.digest, job.traceparent, job.failure, job.actor, job.fork, job.start_after, job.terminate,
    job.needs_code, job.end_asked_at, job.version, job.pinned, job.retried_as
FROM scheduler.jobs AS job
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session;
