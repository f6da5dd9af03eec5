-- The statements of one tick. Each is conditional on the rows as they are, so a tick that failed, or whose answer
-- was lost, may be sent again. All of them follow the table in `core/lifecycle.py`.
--
-- The first array of an unnest is a sub-select, here and in the other files: from a bare parameter the planner
-- learns its length, and then makes a new plan for each length, which takes longer than the statement itself.
--
-- A job that was never leased and has a timer is parked until its `start_after`: it stays so, no matter what comes for it,
-- until the timer fires or it is to be ended.

-- name: settle
-- Outcomes, each as long as the session still has the lease. A job with the wake flag that is parked becomes ready:
-- that is the whole protocol between park and wake, but for a job that wants a version ($13): it becomes ready when a
-- runner offers it. ($4: the new state; $7: seconds, for a release with a delay.)
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN said.state = 3 AND job.wake AND said.wants = '' THEN 1 ELSE said.state END,
    since = now(),
    session = NULL,
    version = CASE WHEN said.wants = '' THEN job.version ELSE said.wants END,
    pinned = job.pinned OR said.wants <> '',
    wake = job.wake AND said.state <= 3,
    paused = job.paused AND said.state <= 3,
    crash_count = CASE WHEN said.progress THEN 0 ELSE job.crash_count END,
    park_reason = CASE WHEN said.state = 3 AND (NOT job.wake OR said.wants <> '') THEN said.reason ELSE '' END,
    wake_at = CASE WHEN said.state = 3 AND NOT job.wake AND NOT said.operator_only
        THEN coalesce(said.wake_at, now() + said.delay_s * interval '1 second') END,
    operator_only = said.state = 3 AND said.operator_only AND (NOT job.wake OR said.wants <> ''),
    result = said.result,
    failure = said.failure,
    needs_code = job.needs_code OR said.needs_code
FROM unnest((SELECT $1::uuid[]), $2::bigint[], $3::uuid[], $4::smallint[], $5::text[], $6::timestamptz[], $7::float8[],
            $8::boolean[], $9::boolean[], $10::bytea[], $11::jsonb[], $12::boolean[], $13::text[])
    AS said (id, lease, session, state, reason, wake_at, delay_s, operator_only, progress, result, failure, needs_code,
             wants)
WHERE job.id = said.id AND scheduler.by_index(job.id)
    -- IS NOT DISTINCT FROM keeps the planner from using an index on the session. Only a leased job has a session.
    AND job.lease = said.lease AND job.session IS NOT DISTINCT FROM said.session
RETURNING job.id, job.lease, job.state, job.parent;

-- name: wake_parents
-- The parents of children that have just ended, woken as by `wake`. Their rows are locked in any case, so that the
-- ends are numbered one after the other. A parent that has ended itself is not woken.
WITH parent AS (
    SELECT job.id, job.state, job.operator_only OR (job.lease = 0 AND job.wake_at IS NOT NULL) AS stays
    FROM unnest((SELECT $1::uuid[])) AS asked (id)
    JOIN scheduler.jobs AS job ON job.id = asked.id
    WHERE scheduler.by_index(job.id) AND job.state <= 3
    ORDER BY job.id
    FOR UPDATE OF job
)
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 AND NOT parent.stays THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 AND NOT parent.stays THEN now() ELSE job.since END,
    wake_at = CASE WHEN parent.stays THEN job.wake_at END,
    park_reason = CASE WHEN parent.stays THEN job.park_reason ELSE '' END,
    wake = job.wake OR job.state = 2 OR job.operator_only
FROM parent
WHERE job.id = parent.id AND scheduler.by_index(job.id)
RETURNING job.id, job.state, job.session, job.lease, parent.state AS was;

-- name: number_ends
-- A statement of its own, so that it sees the numbers that an earlier holder of the parents' locks has given.
INSERT INTO scheduler.child_ends (parent, number, child)
SELECT ended.parent,
    (SELECT coalesce(max(number), 0) FROM scheduler.child_ends AS known WHERE known.parent = ended.parent)
        + row_number() OVER (PARTITION BY ended.parent ORDER BY ended.child),
    ended.child
FROM unnest((SELECT $1::uuid[]), $2::uuid[]) AS ended (parent, child);

-- name: hand_over
-- Jobs that a session has handed back in this tick are leased to its successor ($2, by its stream $3) before any
-- other session can claim them.
WITH alive AS (
    SELECT session FROM scheduler.runners
    WHERE session = $2 AND stream = $3 AND NOT expired
    FOR KEY SHARE SKIP LOCKED
)
UPDATE scheduler.jobs AS job SET
    state = 2,
    since = now(),
    session = alive.session,
    lease = job.lease + 1,
    wake = false,
    progressed = false,
    version = coalesce($6::jsonb ->> job.agent, ''),
    pinned = false
FROM unnest((SELECT $1::uuid[])) AS asked (id), alive
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state = 1 AND NOT job.paused AND job.crash_count < 2
    AND scheduler.takes(job.agent, job.version, job.pinned, coalesce($6::jsonb ->> job.agent, ''))
    AND ($4::text[] IS NULL OR job.agent = ANY ($4::text[])) AND ($5::text[] IS NULL OR job.queue = ANY ($5::text[]))
RETURNING job.*;

-- name: progress
-- No indexed column changes, so the new version of the row stays on its page. Without a note ($5) only a commit was
-- made; a note without a fraction keeps the fraction that was reported before it under the same lease.
UPDATE scheduler.jobs AS job SET
    crash_count = 0,
    progressed = true,
    progress_lease = CASE WHEN said.note IS NULL THEN job.progress_lease ELSE said.lease END,
    progress_fraction = CASE WHEN said.note IS NULL THEN job.progress_fraction
        ELSE coalesce(said.fraction, CASE WHEN job.progress_lease = said.lease THEN job.progress_fraction END) END,
    progress_note = coalesce(said.note, job.progress_note),
    progress_at = CASE WHEN said.note IS NULL THEN job.progress_at ELSE now() END
FROM unnest((SELECT $1::uuid[]), $2::bigint[], $3::uuid[], $4::float8[], $5::text[])
    AS said (id, lease, session, fraction, note)
WHERE job.id = said.id AND scheduler.by_index(job.id)
    AND job.lease = said.lease AND job.session IS NOT DISTINCT FROM said.session
RETURNING job.id, job.lease;

-- name: standing
-- The state and lease of jobs whose outcome or order changed no row. The caller answers by them, and they may wait for
-- their standby still: then a failover would take back what was answered. So this statement writes a message to the WAL,
-- once, if it finds anything, and thereby waits until a standby has all that was visible to it.
SELECT job.id, job.state, job.lease, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM unnest((SELECT $1::uuid[])) AS asked (id)
JOIN scheduler.jobs AS job ON job.id = asked.id
WHERE scheduler.by_index(job.id);

-- name: submit
-- New jobs; those with a slot are leased to its session, if the session has not expired. A second job with the same
-- key or id is not inserted.
WITH alive AS (
    SELECT session, stream FROM scheduler.runners
    WHERE session = ANY ($17::uuid[]) AND NOT expired
    FOR KEY SHARE SKIP LOCKED
)
INSERT INTO scheduler.jobs (id, tenant, agent, queue, priority, parent, deadline, idempotency_key, digest,
                            traceparent, input, actor, fork, state, session, lease, started_at, wake_at, park_reason,
                            start_after, version)
SELECT asked.id, asked.tenant, asked.agent, asked.queue, asked.priority, asked.parent, asked.deadline,
    asked.idempotency_key, asked.digest, asked.traceparent, asked.input, asked.actor, asked.fork,
    CASE WHEN asked.start_after > now() THEN 3 WHEN alive.session IS NULL THEN 1 ELSE 2 END,
    alive.session,
    CASE WHEN alive.session IS NULL THEN 0 ELSE 1 END,
    CASE WHEN alive.session IS NULL THEN NULL ELSE now() END,
    CASE WHEN asked.start_after > now() THEN asked.start_after END,
    CASE WHEN asked.start_after > now() THEN 'not before its time' ELSE '' END,
    asked.start_after,
    CASE WHEN alive.session IS NULL THEN '' ELSE asked.version END
FROM unnest((SELECT $1::uuid[]), $2::text[], $3::text[], $4::text[], $5::smallint[], $6::uuid[], $7::timestamptz[],
            $8::text[], $9::bytea[], $10::text[], $11::bytea[], $12::timestamptz[], $13::uuid[], $14::uuid[],
            $15::text[], $16::jsonb[], $18::text[])
    AS asked (id, tenant, agent, queue, priority, parent, deadline, idempotency_key, digest, traceparent, input,
              start_after, session, stream, actor, fork, version)
LEFT JOIN alive ON alive.session = asked.session AND alive.stream = asked.stream
    AND (asked.start_after IS NULL OR asked.start_after <= now())
ON CONFLICT DO NOTHING
RETURNING id, state, since, lease, wake_at, park_reason;

-- name: link_retries
-- Failed jobs ($1) in whose place a fork ($2) of the same tenant goes on.
UPDATE scheduler.jobs AS job SET retried_as = asked.fork
FROM unnest((SELECT $1::uuid[]), $2::uuid[], $3::text[]) AS asked (id, fork, tenant)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state = 5 AND job.tenant = asked.tenant;

-- name: known
-- The job with this key, or else with this id. Like `standing`, it waits until a standby has what it found.
SELECT asked.number, job.*, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM unnest((SELECT $1::uuid[]), $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS asked (id, tenant, agent, idempotency_key, number)
CROSS JOIN LATERAL (
    (SELECT * FROM scheduler.heads AS head
     WHERE head.tenant = asked.tenant AND head.agent = asked.agent AND head.idempotency_key = asked.idempotency_key
         AND head.idempotency_key <> '' AND scheduler.by_index(head.id))
    UNION ALL
    (SELECT * FROM scheduler.heads AS head WHERE head.id = asked.id AND scheduler.by_index(head.id))
    LIMIT 1
) AS job;

-- name: ready_in_queues
-- How many jobs are ready in each of these queues. Counting stops at the limit.
SELECT asked.queue, counted.jobs
FROM unnest((SELECT $1::text[])) AS asked (queue)
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM scheduler.jobs AS job
        WHERE job.state = 1 AND NOT job.paused AND job.queue = asked.queue AND scheduler.by_index(job.id)
        LIMIT $2
    ) AS waiting
) AS counted;

-- name: wake
-- A parked job becomes ready, unless its time to start has not come. A leased job, or one that waits for an operator,
-- gets the wake flag.
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 AND NOT job.operator_only THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 AND NOT job.operator_only THEN now() ELSE job.since END,
    wake_at = NULL,
    park_reason = CASE WHEN job.operator_only THEN job.park_reason ELSE '' END,
    wake = job.wake OR job.state = 2 OR job.operator_only
FROM unnest((SELECT $1::uuid[])) AS asked (id)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state IN (2, 3)
    AND NOT (job.lease = 0 AND job.wake_at IS NOT NULL)
RETURNING job.id, job.state, job.session, job.lease;

-- name: cancel
-- Sets the wake flag of a leased job, too, so that a park that the holder has sent already does not hide the cancel.
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 THEN now() ELSE job.since END,
    wake_at = NULL,
    park_reason = '',
    operator_only = false,
    wake = job.wake OR job.state = 2,
    paused = false,
    cancel = true,
    cancel_reason = asked.reason,
    cancel_actor = asked.actor,
    end_asked_at = now()
FROM unnest((SELECT $1::uuid[]), $2::text[], $3::text[]) AS asked (id, reason, actor)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state <= 3 AND NOT job.cancel
RETURNING job.id, job.state, job.session, job.lease;

-- name: terminate
-- As a cancel, which it overrules.
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 THEN now() ELSE job.since END,
    wake_at = NULL,
    park_reason = '',
    operator_only = false,
    wake = job.wake OR job.state = 2,
    paused = false,
    cancel = true,
    cancel_reason = asked.reason,
    cancel_actor = asked.actor,
    end_asked_at = now(),
    terminate = true
FROM unnest((SELECT $1::uuid[]), $2::text[], $3::text[]) AS asked (id, reason, actor)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state <= 3 AND NOT job.terminate
RETURNING job.id, job.state, job.session, job.lease;

-- name: pause
-- A job with a cancel is not paused: it must come to its end.
UPDATE scheduler.jobs AS job SET paused = true
FROM unnest((SELECT $1::uuid[])) AS asked (id)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state <= 3 AND NOT job.cancel
RETURNING job.id, job.state, job.session, job.lease;

-- name: resume
-- The job may have been parked only for the pause, so it is made ready, unless its time to start has not come.
WITH paused AS (
    SELECT job.id, job.operator_only OR (job.lease = 0 AND job.wake_at IS NOT NULL) AS stays
    FROM unnest((SELECT $1::uuid[])) AS asked (id)
    JOIN scheduler.jobs AS job ON job.id = asked.id
    WHERE scheduler.by_index(job.id) AND job.state <= 3 AND job.paused
    ORDER BY job.id
    FOR UPDATE OF job
)
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 AND NOT paused.stays THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 AND NOT paused.stays THEN now() ELSE job.since END,
    wake_at = CASE WHEN paused.stays THEN job.wake_at END,
    park_reason = CASE WHEN paused.stays THEN job.park_reason ELSE '' END,
    wake = job.wake OR job.state = 2,
    paused = false
FROM paused
WHERE job.id = paused.id AND scheduler.by_index(job.id)
RETURNING job.id, job.state, job.session, job.lease;

-- name: requeue
-- A leased job is not requeued, but gets the wake flag: a park that its holder has sent already must not hide the
-- operator's decision.
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN job.state = 3 THEN 1 ELSE job.state END,
    since = CASE WHEN job.state = 3 THEN now() ELSE job.since END,
    crash_count = CASE WHEN job.state = 3 THEN 0 ELSE job.crash_count END,
    pinned = job.pinned AND job.state <> 3,
    wake_at = NULL,
    park_reason = '',
    operator_only = false,
    wake = job.wake OR job.state = 2
FROM unnest((SELECT $1::uuid[])) AS asked (id)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.state IN (2, 3)
    AND NOT (job.lease = 0 AND job.wake_at IS NOT NULL)
RETURNING job.id, job.state, job.session, job.lease;

-- name: fire
-- Timers that are due, the oldest first.
WITH due AS (
    SELECT id FROM scheduler.jobs
    WHERE state = 3 AND wake_at IS NOT NULL AND wake_at <= now() AND scheduler.by_index(id)
    ORDER BY wake_at LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduler.jobs AS job SET state = 1, since = now(), wake_at = NULL, park_reason = ''
FROM due
WHERE job.id = due.id AND scheduler.by_index(job.id)
RETURNING job.id;

-- name: overdue
-- Jobs that are past their deadline, for `cancel`.
SELECT id FROM scheduler.jobs
WHERE deadline IS NOT NULL AND deadline <= now() AND state <= 3 AND NOT cancel AND scheduler.by_index(id)
ORDER BY deadline LIMIT $1
FOR UPDATE SKIP LOCKED;

-- name: expire
-- Sessions whose lease has run out. A transaction that leases a job to a session holds a key-share lock on the
-- session's row, so once the row is locked here, all jobs leased to the session are committed and visible to `lose`.
WITH gone AS (
    SELECT session FROM scheduler.runners
    WHERE NOT expired AND lease_deadline <= now() AND NOT (session = ANY ($1::uuid[]))
    ORDER BY lease_deadline LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduler.runners AS runner SET expired = true
FROM gone
WHERE runner.session = gone.session
RETURNING runner.session;

-- name: lose
-- The jobs of these sessions become ready, and their lease numbers are raised. For the suspects it is a crash, and all
-- are suspects where none are named. A job that has now lost as many leases in a row as the limit ($2) is poisoned, if no
-- other job may have been the cause of this loss. The session's row keeps which jobs it lost.
WITH held AS (
    SELECT id, session, lease FROM scheduler.jobs
    WHERE state = 2 AND session = ANY ($1::uuid[]) AND scheduler.by_index(id)
    ORDER BY id
    FOR UPDATE
), gone AS (
    UPDATE scheduler.runners AS runner SET lost = all_of.jobs
    FROM (SELECT session, array_agg(id) AS jobs FROM held GROUP BY session) AS all_of
    WHERE runner.session = all_of.session
    RETURNING runner.session, runner.suspects, cardinality(all_of.jobs) = 1 OR cardinality(runner.suspects) = 1 AS alone
), judged AS (
    SELECT held.id, held.session, held.lease, coalesce(held.id = ANY (gone.suspects), true) AS suspect,
        coalesce(gone.alone, false) AS alone
    FROM held JOIN gone ON gone.session = held.session
)
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN judged.suspect AND judged.alone AND job.crash_count + 1 >= $2 THEN 3 ELSE 1 END,
    since = now(),
    session = NULL,
    lease = job.lease + 1,
    crash_count = job.crash_count + CASE WHEN judged.suspect THEN 1 ELSE 0 END,
    operator_only = judged.suspect AND judged.alone AND job.crash_count + 1 >= $2,
    park_reason = CASE WHEN judged.suspect AND judged.alone AND job.crash_count + 1 >= $2
        THEN replace($3, '{count}', (job.crash_count + 1)::text) ELSE '' END
FROM judged
WHERE job.id = judged.id AND scheduler.by_index(job.id)
RETURNING job.id, judged.session, judged.lease, job.state;

-- name: suspect
-- The suspects ($2) of a session ($1). If the session has expired already, the loss was no crash for its other jobs.
WITH named AS (
    UPDATE scheduler.runners AS runner SET suspects = $2::uuid[]
    WHERE runner.session = $1 AND (NOT runner.expired OR runner.suspects IS NULL)
    RETURNING runner.lost
)
UPDATE scheduler.jobs AS job SET crash_count = greatest(job.crash_count - 1, 0)
FROM (SELECT unnest(lost) AS id FROM named) AS lost
WHERE job.id = lost.id AND scheduler.by_index(job.id) AND NOT (job.id = ANY ($2::uuid[]))
    AND job.state <= 3 AND NOT job.operator_only;

-- name: serve_versions
-- Jobs that wait for a version which a connected runner offers now become ready; ready ones whose version no connected
-- runner offers any more wait for an operator. ($1: the reason then; $2: how many at most.)
WITH waiting AS (
    SELECT id, state = 3 AS parked FROM scheduler.jobs
    WHERE pinned AND (state = 3 AND operator_only AND scheduler.offered(agent, version)
        OR state = 1 AND NOT cancel AND NOT scheduler.offered(agent, version)) AND scheduler.by_index(id)
    ORDER BY id LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduler.jobs AS job SET
    state = CASE WHEN waiting.parked THEN 1 ELSE 3 END,
    since = now(),
    operator_only = NOT waiting.parked,
    park_reason = CASE WHEN waiting.parked THEN '' ELSE replace($1, '{version}', job.version) END
FROM waiting
WHERE job.id = waiting.id AND scheduler.by_index(job.id)
RETURNING job.id, job.state;

-- name: take_terminating
-- Jobs that their holders were to terminate and have not ended within $1 seconds become ready, so that another runner
-- does it. The lease number is raised, as for a lease that was lost.
WITH late AS (
    SELECT id, session, lease FROM scheduler.jobs
    WHERE state = 2 AND terminate AND end_asked_at <= now() - $1::float8 * interval '1 second'
        AND scheduler.by_index(id)
    ORDER BY end_asked_at LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduler.jobs AS job SET state = 1, since = now(), session = NULL, lease = job.lease + 1
FROM late
WHERE job.id = late.id AND scheduler.by_index(job.id)
RETURNING job.id, late.session, late.lease;

-- name: forget_expired
-- Expired sessions are kept for an hour, so that a runner that comes back is told that its session expired.
DELETE FROM scheduler.runners WHERE expired AND lease_deadline < now() - interval '1 hour';

-- name: claim
-- The first jobs of the lanes that these sessions take. A lane is an agent, a queue, a version and a tenant; each is read
-- in order from the small index over ready jobs, at most $14 lanes from the one behind ($10 to $13) on, so the cost
-- depends neither on how many jobs are ready nor on how many tenants there are. A slot whose session is gone gets no job.
-- ($1, $2: a session and its stream for each slot; $6: the sessions, once each; $7: agent → version of these sessions.)
--
-- In turn: the tenant with the fewest held jobs ($8, $9) comes first; each job that it gets counts as one more.
WITH RECURSIVE lane AS (
    (SELECT agent, queue, version, tenant, 1 AS number FROM scheduler.jobs
     WHERE state = 1 AND NOT paused AND crash_count < 2
         AND (agent, queue, version, tenant) > ($10::text, $11::text, $12::text, $13::text) AND scheduler.by_index(id)
     ORDER BY agent, queue, version, tenant LIMIT 1)
    UNION ALL
    SELECT following.agent, following.queue, following.version, following.tenant, lane.number + 1
    FROM lane CROSS JOIN LATERAL (
        SELECT agent, queue, version, tenant FROM scheduler.jobs
        WHERE state = 1 AND NOT paused AND crash_count < 2
            AND (agent, queue, version, tenant) > (lane.agent, lane.queue, lane.version, lane.tenant)
            AND scheduler.by_index(id)
        ORDER BY agent, queue, version, tenant LIMIT 1
    ) AS following
    WHERE lane.number < $14
), alive AS (
    SELECT session, stream FROM scheduler.runners
    WHERE session = ANY ($6::uuid[]) AND NOT expired
    FOR KEY SHARE SKIP LOCKED
), place AS (
    SELECT array_agg(asked.session ORDER BY asked.number) AS sessions
    FROM unnest((SELECT $1::uuid[]), $2::uuid[]) WITH ORDINALITY AS asked (session, stream, number)
    JOIN alive ON alive.session = asked.session AND alive.stream = asked.stream
), open AS (
    SELECT agent, queue, version, tenant, coalesce($7::jsonb ->> agent, '') AS mine
    FROM lane
    WHERE ($3::text[] IS NULL OR agent = ANY ($3::text[])) AND ($4::text[] IS NULL OR queue = ANY ($4::text[]))
        AND (scheduler.takes(agent, version, false, coalesce($7::jsonb ->> agent, '')))
), candidate AS (
    SELECT job.id, job.since, job.place, open.tenant
    FROM open CROSS JOIN LATERAL (
        SELECT id, since, scheduler.place(since, priority) AS place FROM scheduler.jobs
        WHERE state = 1 AND NOT paused AND crash_count < 2
            AND agent = open.agent AND queue = open.queue AND version = open.version AND tenant = open.tenant
            AND (NOT pinned OR version = open.mine) AND scheduler.by_index(id)
        ORDER BY scheduler.place(since, priority), id
        -- With many lanes a few of each are enough; what is missing is claimed next.
        LIMIT (SELECT CASE WHEN count(*) <= 16 THEN $5::bigint ELSE $5::bigint / count(*) + 1 END FROM open)
        FOR UPDATE SKIP LOCKED
    ) AS job
), ranked AS (
    SELECT candidate.id, candidate.since, candidate.place,
        row_number() OVER (PARTITION BY candidate.tenant ORDER BY candidate.place, candidate.id)
            + coalesce(held.jobs, 0) AS turn
    FROM candidate
    LEFT JOIN unnest((SELECT $8::text[]), $9::integer[]) AS held (tenant, jobs) ON held.tenant = candidate.tenant
), picked AS (
    SELECT id, since, row_number() OVER (ORDER BY turn, place, id) AS number FROM ranked
), leased AS (
    UPDATE scheduler.jobs AS job SET
        state = 2,
        since = now(),
        session = place.sessions[picked.number],
        lease = job.lease + 1,
        wake = false,
        progressed = false,
        started_at = coalesce(job.started_at, now()),
        version = coalesce($7::jsonb ->> job.agent, ''),
        pinned = false
    FROM picked, place
    WHERE picked.number <= cardinality(place.sessions) AND job.id = picked.id AND scheduler.by_index(job.id)
    RETURNING job.*, extract(epoch FROM now() - picked.since)::float8 AS waited_s
)
SELECT last.number AS last_number, last.agent AS last_agent, last.queue AS last_queue, last.version AS last_version,
    last.tenant AS last_tenant, leased.*
FROM (SELECT * FROM lane ORDER BY number DESC LIMIT 1) AS last
LEFT JOIN leased ON true;

-- name: claim_alone
-- The first job that is to run alone, for a session ($1, by its stream $2) that holds nothing.
-- ($3, $4: the agents and queues that it serves; $5: agent → version.)
WITH alive AS (
    SELECT session FROM scheduler.runners
    WHERE session = $1 AND stream = $2 AND NOT expired
        AND NOT EXISTS (
            SELECT FROM scheduler.jobs WHERE state = 2 AND session = $1 AND scheduler.by_index(id)
        )
    FOR KEY SHARE SKIP LOCKED
), picked AS (
    SELECT id, since FROM scheduler.jobs
    WHERE state = 1 AND NOT paused AND crash_count >= 2
        AND ($3::text[] IS NULL OR agent = ANY ($3::text[])) AND ($4::text[] IS NULL OR queue = ANY ($4::text[]))
        AND scheduler.takes(agent, version, pinned, coalesce($5::jsonb ->> agent, '')) AND scheduler.by_index(id)
    ORDER BY scheduler.place(since, priority), id LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE scheduler.jobs AS job SET
    state = 2,
    since = now(),
    session = alive.session,
    lease = job.lease + 1,
    wake = false,
    progressed = false,
    started_at = coalesce(job.started_at, now()),
    version = coalesce($5::jsonb ->> job.agent, ''),
    pinned = false
FROM picked, alive
WHERE job.id = picked.id AND scheduler.by_index(job.id)
RETURNING job.*, extract(epoch FROM now() - picked.since)::float8 AS waited_s;

-- name: claim_ending
-- Jobs that are to be ended and need no code for it: those that are to be terminated, and cancelled ones of agents that
-- no connected runner offers. ($1, $2: a session and its stream for each slot; $4: the sessions, once each.)
WITH RECURSIVE lane AS (
    (SELECT terminate, agent, queue, scheduler.pinned_to(pinned, version) AS pinned_to FROM scheduler.jobs
     WHERE state = 1 AND cancel AND (terminate OR NOT needs_code) AND scheduler.by_index(id)
     ORDER BY NOT terminate, agent, queue, scheduler.pinned_to(pinned, version) LIMIT 1)
    UNION ALL
    SELECT following.* FROM lane CROSS JOIN LATERAL (
        SELECT terminate, agent, queue, scheduler.pinned_to(pinned, version) AS pinned_to FROM scheduler.jobs
        WHERE state = 1 AND cancel AND (terminate OR NOT needs_code)
            AND (NOT terminate, agent, queue, scheduler.pinned_to(pinned, version))
                > (NOT lane.terminate, lane.agent, lane.queue, lane.pinned_to) AND scheduler.by_index(id)
        ORDER BY NOT terminate, agent, queue, scheduler.pinned_to(pinned, version) LIMIT 1
    ) AS following
), alive AS (
    SELECT session, stream FROM scheduler.runners
    WHERE session = ANY ($4::uuid[]) AND NOT expired
    FOR KEY SHARE SKIP LOCKED
), place AS (
    SELECT array_agg(asked.session ORDER BY asked.number) AS sessions
    FROM unnest((SELECT $1::uuid[]), $2::uuid[]) WITH ORDINALITY AS asked (session, stream, number)
    JOIN alive ON alive.session = asked.session AND alive.stream = asked.stream
), picked AS (
    SELECT job.id, job.since,
        row_number() OVER (ORDER BY NOT lane.terminate, lane.agent, lane.queue, lane.pinned_to, job.since, job.id) AS number
    FROM lane CROSS JOIN LATERAL (
        SELECT id, since FROM scheduler.jobs
        WHERE state = 1 AND cancel AND (terminate OR NOT needs_code)
            AND (NOT terminate) = (NOT lane.terminate) AND agent = lane.agent AND queue = lane.queue
            AND scheduler.pinned_to(pinned, version) = lane.pinned_to
            AND scheduler.by_index(id)
        ORDER BY since, id LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) AS job
    WHERE lane.terminate OR NOT scheduler.served(lane.agent, lane.queue, lane.pinned_to)
)
UPDATE scheduler.jobs AS job SET
    state = 2,
    since = now(),
    session = place.sessions[picked.number],
    lease = job.lease + 1,
    wake = false,
    progressed = false,
    started_at = coalesce(job.started_at, now())
FROM picked, place
WHERE picked.number <= cardinality(place.sessions) AND job.id = picked.id AND scheduler.by_index(job.id)
RETURNING job.*, extract(epoch FROM now() - picked.since)::float8 AS waited_s;
