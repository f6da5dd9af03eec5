-- name: find_session
-- Locks the session until the transaction ends, so that no other scheduler leases jobs to it or expires it.
SELECT expired OR lease_deadline <= now() AS expired FROM scheduler.runners WHERE session = $1 FOR UPDATE;

-- name: open_session
-- From now on this stream speaks for the session.
INSERT INTO scheduler.runners AS runner
    (session, stream, runner_id, agents, queues, capacity, lease_deadline, versions)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second', $8)
ON CONFLICT (session) DO UPDATE SET
    stream = excluded.stream,
    runner_id = excluded.runner_id,
    agents = excluded.agents,
    queues = excluded.queues,
    capacity = excluded.capacity,
    lease_deadline = excluded.lease_deadline,
    versions = excluded.versions
RETURNING draining;

-- name: leased_to
-- Whole jobs that are leased to these sessions.
SELECT job.*, runner.runner_id
FROM scheduler.jobs AS job
JOIN scheduler.runners AS runner ON runner.session = job.session
WHERE job.state = 2 AND job.session = ANY ($1::uuid[]) AND scheduler.by_index(job.id);

-- name: held_by
-- The jobs and leases of one session.
SELECT job.id, job.lease FROM scheduler.jobs AS job
WHERE job.state = 2 AND job.session = $1 AND scheduler.by_index(job.id);

-- name: revoke
-- Jobs that were leased to a session and never reached it.
UPDATE scheduler.jobs AS job SET state = 1, since = now(), session = NULL, lease = job.lease + 1
FROM unnest((SELECT $1::uuid[])) AS asked (id)
WHERE job.id = asked.id AND scheduler.by_index(job.id) AND job.session IS NOT DISTINCT FROM $2;

-- name: renew
-- One statement for all sessions that beat: the cost does not grow with the jobs that they hold. A session that is not
-- returned has expired, or speaks through another stream.
UPDATE scheduler.runners AS runner SET lease_deadline = now() + $3 * interval '1 second'
FROM unnest((SELECT $1::uuid[]), $2::uuid[]) AS beating (session, stream)
WHERE runner.session = beating.session AND runner.stream = beating.stream AND NOT runner.expired
RETURNING runner.session, runner.draining;

-- name: close_session
-- A session without jobs is over with its stream.
DELETE FROM scheduler.runners AS runner
WHERE runner.session = $1 AND runner.stream = $2 AND NOT runner.expired
    AND NOT EXISTS (
        SELECT FROM scheduler.jobs AS job
        WHERE job.state = 2 AND job.session = $1 AND scheduler.by_index(job.id)
    )
RETURNING runner.session;

-- name: shorten_session
-- The stream is lost: the session keeps its jobs for the grace ($3), but never longer than its lease.
UPDATE scheduler.runners SET lease_deadline = least(lease_deadline, now() + $3 * interval '1 second')
WHERE session = $1 AND stream = $2 AND NOT expired;

-- name: drain_session
-- The session gets no more jobs, from any scheduler.
UPDATE scheduler.runners SET draining = true WHERE session = $1 AND NOT expired RETURNING session;

-- name: runners
-- Sessions, a page at a time, in order of their runner ids.
SELECT runner.*, (
    SELECT count(*) FROM scheduler.jobs AS job
    WHERE job.state = 2 AND job.session = runner.session AND scheduler.by_index(job.id)
) AS held
FROM scheduler.runners AS runner
WHERE NOT expired AND (runner_id, session) > ($1::text, $2::uuid)
ORDER BY runner_id, session
LIMIT $3;
