-- name: get
-- Whole jobs, with their holder's runner id.
SELECT job.*, runner.runner_id
FROM unnest((SELECT $1::uuid[])) AS asked (id)
JOIN scheduler.jobs AS job ON job.id = asked.id
LEFT JOIN scheduler.runners AS runner ON runner.session = job.session
WHERE scheduler.by_index(job.id);

-- name: ended
-- Of the jobs that callers wait for, those that have ended.
SELECT job.id
FROM unnest((SELECT $1::uuid[])) AS asked (id)
JOIN scheduler.jobs AS job ON job.id = asked.id
WHERE scheduler.by_index(job.id) AND job.state >= 4;

-- name: list
-- Newest first: the newest of each state, merged.
SELECT job.*
FROM unnest((SELECT $2::smallint[])) AS asked (state)
CROSS JOIN LATERAL (
    SELECT * FROM scheduler.heads AS found
    WHERE found.tenant = $1 AND found.state = asked.state AND found.id < $3
        AND ($4::text IS NULL OR found.agent = $4) AND ($5::text IS NULL OR found.queue = $5)
        AND scheduler.by_index(found.id)
    ORDER BY found.id DESC LIMIT $6
) AS job
ORDER BY job.id DESC
LIMIT $6;

-- name: list_children
-- The same of one parent's children ($7).
SELECT * FROM scheduler.heads AS job
WHERE job.parent = $7 AND job.tenant = $1 AND job.state = ANY ($2::smallint[]) AND job.id < $3
    AND ($4::text IS NULL OR job.agent = $4) AND ($5::text IS NULL OR job.queue = $5) AND scheduler.by_index(job.id)
ORDER BY job.id DESC
LIMIT $6;

-- name: child_ends
-- The children of a job that have ended: those with a number above $2, a page at a time (none if $2 is NULL), and of
-- the children in $4. One statement, so that a child that is in neither will get a number above `head`.
WITH page AS (
    SELECT number, child FROM scheduler.child_ends
    WHERE parent = $1 AND number > $2
    ORDER BY number LIMIT $3
)
SELECT
    (SELECT array_agg(child) FROM page) AS since,
    (SELECT max(number) FROM page) AS last,
    (SELECT coalesce(max(number), 0) FROM scheduler.child_ends WHERE parent = $1) AS head,
    (SELECT array_agg(job.id)
     FROM unnest((SELECT $4::uuid[])) AS asked (id)
     JOIN scheduler.jobs AS job ON job.id = asked.id
     WHERE scheduler.by_index(job.id) AND job.parent = $1 AND job.state >= 4) AS named;

-- name: stuck
-- Longest stuck first. The conditions are those of `core/stuck.py`, which also names the cause.
-- ($4: patience, $5: how late a timer may be, $7: how long an end may take, all in seconds.)
WITH suspect AS (
    SELECT id, since AS stuck_since, end_asked_at FROM scheduler.jobs
    WHERE tenant = $1 AND operator_only AND scheduler.by_index(id)
    UNION
    SELECT id, wake_at, end_asked_at FROM scheduler.jobs
    WHERE state = 3 AND wake_at IS NOT NULL AND wake_at < now() - $5 * interval '1 second' AND tenant = $1
        AND scheduler.by_index(id)
    UNION
    SELECT id, since, end_asked_at FROM scheduler.jobs
    WHERE tenant = $1 AND state = 1 AND NOT paused AND since < now() - $4 * interval '1 second'
        AND scheduler.by_index(id)
    UNION
    SELECT id, since, end_asked_at FROM scheduler.jobs
    WHERE tenant = $1 AND state = 2 AND NOT progressed AND since < now() - $4 * interval '1 second'
        AND scheduler.by_index(id)
    UNION
    SELECT id, since, end_asked_at FROM scheduler.jobs
    WHERE tenant = $1 AND crash_count > 0 AND state IN (1, 2) AND scheduler.by_index(id)
    UNION
    SELECT id, end_asked_at, end_asked_at FROM scheduler.jobs
    WHERE tenant = $1 AND cancel AND state <= 3 AND end_asked_at < now() - $7::float8 * interval '1 second'
        AND scheduler.by_index(id)
), page AS (
    SELECT id, stuck_since FROM suspect
    -- A job that does not end is listed for that, and not for a second cause.
    WHERE (end_asked_at IS NULL OR end_asked_at >= now() - $7::float8 * interval '1 second' OR stuck_since = end_asked_at)
        AND (stuck_since, id) > ($2::timestamptz, $3::uuid)
    ORDER BY stuck_since, id LIMIT $6
)
SELECT job.*, now() AS asked_at
FROM page
JOIN scheduler.heads AS job ON job.id = page.id
WHERE scheduler.by_index(job.id)
ORDER BY page.stuck_since, page.id;

-- name: look
-- What a scheduler reads a few times a second, from a few index heads: the lanes with ready jobs, when the next timer,
-- deadline and lease are due, whether jobs wait to be ended, for a version or to run alone, and the notices for the
-- sessions of its own streams ($1).
WITH RECURSIVE lane AS (
    (SELECT agent, queue FROM scheduler.jobs
     WHERE state = 1 AND NOT paused AND crash_count < 2 AND scheduler.by_index(id)
     ORDER BY agent, queue LIMIT 1)
    UNION ALL
    SELECT following.agent, following.queue FROM lane CROSS JOIN LATERAL (
        SELECT agent, queue FROM scheduler.jobs
        WHERE state = 1 AND NOT paused AND crash_count < 2 AND (agent, queue) > (lane.agent, lane.queue)
            AND scheduler.by_index(id)
        ORDER BY agent, queue LIMIT 1
    ) AS following
), ending AS (
    (SELECT terminate, agent, queue, scheduler.pinned_to(pinned, version) AS pinned_to FROM scheduler.jobs
     WHERE state = 1 AND cancel AND (terminate OR NOT needs_code) AND scheduler.by_index(id)
     ORDER BY NOT terminate, agent, queue, scheduler.pinned_to(pinned, version) LIMIT 1)
    UNION ALL
    SELECT following.* FROM ending CROSS JOIN LATERAL (
        SELECT terminate, agent, queue, scheduler.pinned_to(pinned, version) AS pinned_to FROM scheduler.jobs
        WHERE state = 1 AND cancel AND (terminate OR NOT needs_code)
            AND (NOT terminate, agent, queue, scheduler.pinned_to(pinned, version))
                > (NOT ending.terminate, ending.agent, ending.queue, ending.pinned_to) AND scheduler.by_index(id)
        ORDER BY NOT terminate, agent, queue, scheduler.pinned_to(pinned, version) LIMIT 1
    ) AS following
), pin AS (
    (SELECT agent, version, state, cancel FROM scheduler.jobs
     WHERE pinned AND state IN (1, 3) AND scheduler.by_index(id)
     ORDER BY agent, version, state, cancel LIMIT 1)
    UNION ALL
    SELECT following.* FROM pin CROSS JOIN LATERAL (
        SELECT agent, version, state, cancel FROM scheduler.jobs
        WHERE pinned AND state IN (1, 3)
            AND (agent, version, state, cancel) > (pin.agent, pin.version, pin.state, pin.cancel)
            AND scheduler.by_index(id)
        ORDER BY agent, version, state, cancel LIMIT 1
    ) AS following
)
SELECT now() AS now,
    (SELECT array_agg(agent ORDER BY agent, queue) FROM lane) AS agents,
    (SELECT array_agg(queue ORDER BY agent, queue) FROM lane) AS queues,
    (SELECT wake_at FROM scheduler.jobs
     WHERE state = 3 AND wake_at IS NOT NULL AND scheduler.by_index(id) ORDER BY wake_at LIMIT 1) AS wake_at,
    (SELECT deadline FROM scheduler.jobs
     WHERE deadline IS NOT NULL AND state <= 3 AND NOT cancel AND scheduler.by_index(id)
     ORDER BY deadline LIMIT 1) AS deadline,
    (SELECT min(lease_deadline) FROM scheduler.runners
     WHERE NOT expired AND NOT (session = ANY ($2::uuid[]))) AS lease_deadline,
    EXISTS (
        SELECT FROM ending WHERE terminate OR NOT scheduler.served(agent, queue, pinned_to)
    ) AS ending,
    EXISTS (
        SELECT FROM pin
        WHERE CASE WHEN state = 3 THEN scheduler.offered(agent, version)
            ELSE NOT cancel AND NOT scheduler.offered(agent, version) END
    ) AS versions,
    (SELECT jsonb_agg(DISTINCT jsonb_build_array(agent, queue)) FROM (
        SELECT agent, queue FROM scheduler.jobs
        WHERE state = 1 AND NOT paused AND crash_count >= 2 AND scheduler.by_index(id)
        ORDER BY scheduler.place(since, priority), id LIMIT 100
    ) AS first) AS alone,
    (SELECT end_asked_at FROM scheduler.jobs
     WHERE state = 2 AND terminate AND scheduler.by_index(id) ORDER BY end_asked_at LIMIT 1) AS terminate_at,
    (SELECT jsonb_agg(jsonb_build_array(id, lease, session, wake, cancel, paused, terminate)) FROM scheduler.jobs
     WHERE state = 2 AND (wake OR cancel OR paused) AND session = ANY ($1::uuid[]) AND scheduler.by_index(id)) AS news;

-- name: count_ready
-- Counting stops at the limit, because the gauge need not be exact beyond it.
SELECT count(*) FROM (
    SELECT FROM scheduler.jobs WHERE state = 1 AND NOT paused AND scheduler.by_index(id) LIMIT $1
) AS waiting;

-- name: deployments
-- The versions of agents: the runners that offer each, and its open jobs. ($1: a tenant, $2: an agent, each empty for
-- all; $3, $4: the last agent and version of the page before.) Parked and ready jobs are counted by an index, at most
-- 10,000 of each version (`state + 0` is what the index jobs_versions asks for); held ones are no more than the runners'
-- places.
WITH RECURSIVE waiting AS (
    (SELECT agent, version FROM scheduler.jobs
     WHERE state + 0 IN (1, 3) AND scheduler.by_index(id)
     ORDER BY agent, version LIMIT 1)
    UNION ALL
    SELECT following.* FROM waiting CROSS JOIN LATERAL (
        SELECT agent, version FROM scheduler.jobs
        WHERE state + 0 IN (1, 3) AND (agent, version) > (waiting.agent, waiting.version) AND scheduler.by_index(id)
        ORDER BY agent, version LIMIT 1
    ) AS following
), offered AS (
    SELECT agent, version, count(*)::integer AS runners FROM (
        SELECT name AS agent, coalesce(runner.versions ->> name, '') AS version
        FROM scheduler.runners AS runner
        CROSS JOIN LATERAL (
            SELECT unnest(runner.agents) AS name UNION SELECT jsonb_object_keys(runner.versions)
        ) AS names
        WHERE NOT runner.expired
    ) AS each
    GROUP BY agent, version
), held AS (
    SELECT job.agent, job.version, count(*)::integer AS jobs, count(*) FILTER (WHERE job.pinned)::integer AS wanted
    FROM scheduler.runners AS runner
    JOIN scheduler.jobs AS job ON job.session = runner.session
    WHERE job.state = 2 AND scheduler.by_index(job.id) AND ($1::text = '' OR job.tenant = $1)
    GROUP BY job.agent, job.version
), known AS (
    SELECT agent, version FROM waiting UNION SELECT agent, version FROM offered UNION SELECT agent, version FROM held
), counted AS (
    SELECT known.agent, known.version, coalesce(offered.runners, 0) AS runners,
        coalesce(held.jobs, 0) + parked.jobs AS open_jobs, coalesce(held.wanted, 0) + pinned.jobs AS wanted_by_jobs
    FROM known
    LEFT JOIN offered ON offered.agent = known.agent AND offered.version = known.version
    LEFT JOIN held ON held.agent = known.agent AND held.version = known.version
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS jobs FROM (
            SELECT FROM scheduler.jobs AS job
            WHERE job.state + 0 IN (1, 3) AND job.agent = known.agent AND job.version = known.version
                AND ($1::text = '' OR job.tenant = $1) AND scheduler.by_index(job.id)
            LIMIT 10000
        ) AS found
    ) AS parked
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS jobs FROM (
            SELECT FROM scheduler.jobs AS job
            WHERE job.pinned AND job.state IN (1, 3) AND job.agent = known.agent AND job.version = known.version
                AND ($1::text = '' OR job.tenant = $1) AND scheduler.by_index(job.id)
            LIMIT 10000
        ) AS found
    ) AS pinned
    WHERE (known.agent, known.version) > ($3::text, $4::text) AND ($2::text = '' OR known.agent = $2)
)
SELECT * FROM counted WHERE runners > 0 OR open_jobs > 0
ORDER BY agent, version LIMIT $5;
