-- name: accept
-- A batch of inbox entries, in the order given; returns the ids that are new. An entry that repeats a stored one changes
-- nothing.
--
-- The locks, one per job of the batch and taken in the same order by every gateway, are held until this statement
-- has committed. So of two gateways that accept for one job at one time, the second draws its positions
-- after the first has committed: within a job, the order of positions is the order in which entries become
-- visible, and Fetch can go on after the last one it saw. Without them a position drawn first may commit
-- last, and a reader that is past its position would never see it.
WITH held AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(1852797029, job.lock) AS lock FROM unnest($1::int[]) AS job (lock)
)
INSERT INTO gateway.notes (id, tenant, job_id, kind, name, message_id, payload, actor)
SELECT note.id, note.tenant, note.job_id, note.kind, note.name, note.message_id, note.payload, note.actor
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::smallint[], $6::text[], $7::text[], $8::bytea[], $9::text[])
    WITH ORDINALITY AS note (id, tenant, job_id, kind, name, message_id, payload, actor, place)
WHERE (SELECT count(held.lock) FROM held) >= 0
ORDER BY note.place
ON CONFLICT DO NOTHING
RETURNING id;

-- name: standing_signals
-- The stored signals with these correlation keys, each with the place of its key in the request. The caller answers by
-- them, and they may wait for their standby still: then a failover would take back what was answered. So this statement
-- writes a message to the WAL, once, if it finds anything, and thereby waits until a standby has all that was visible to it.
SELECT asked.place, note.id, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (job_id, tenant, name, place)
JOIN gateway.notes AS note
    ON note.job_id = asked.job_id AND note.tenant = asked.tenant AND note.name = asked.name AND note.kind = 1;

-- name: standing_messages
-- The stored messages with these message ids, each with the place of its id in the request. Like `standing_signals`, it
-- waits until a standby has what it found.
SELECT asked.place, note.id, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (job_id, tenant, message_id, place)
JOIN gateway.notes AS note
    ON note.job_id = asked.job_id AND note.tenant = asked.tenant AND note.message_id = asked.message_id
    AND note.kind = 2;

-- name: fetch
-- The unsettled entries of a job, oldest first, after an entry or from the beginning: at most $3 entries, and of those no
-- more than fit into $4 bytes, but always the first. With a tenant ($5), only entries from callers of that tenant: while
-- the scheduler is away, the gateway cannot check to which tenant a job belongs, and accepts entries from all.
SELECT page.*
FROM (
    SELECT id, kind, name, message_id, payload, actor, accepted_at,
        sum(octet_length(payload) + 1024) OVER (ORDER BY position) - octet_length(payload) - 1024 AS bytes_before
    FROM (
        SELECT * FROM gateway.notes
        WHERE job_id = $1 AND settled_at IS NULL AND ($5::text = '' OR tenant = $5)
            AND ($2::uuid IS NULL OR position > (SELECT position FROM gateway.notes WHERE id = $2 AND job_id = $1))
        ORDER BY position
        LIMIT $3
    ) AS unsettled
) AS page
WHERE bytes_before < $4
ORDER BY bytes_before;

-- name: is_of_job
SELECT EXISTS (SELECT FROM gateway.notes WHERE id = $1 AND job_id = $2);

-- name: settle
-- Locked in the order of ids, so that two calls that settle the same entries cannot deadlock.
WITH settled AS (
    SELECT note.id
    FROM unnest($1::uuid[], $2::uuid[]) AS asked (job_id, id)
    JOIN gateway.notes AS note ON note.id = asked.id AND note.job_id = asked.job_id
    WHERE note.settled_at IS NULL
    ORDER BY note.id
    FOR UPDATE OF note
)
UPDATE gateway.notes
SET settled_at = clock_timestamp(), woken_at = coalesce(woken_at, clock_timestamp())
FROM settled
WHERE notes.id = settled.id;

-- name: mark_woken
-- An entry that is being settled at this moment is skipped: settling marks it as woken as well.
WITH woken AS (
    SELECT id FROM gateway.notes WHERE id = ANY($1::uuid[]) AND woken_at IS NULL FOR UPDATE SKIP LOCKED
)
UPDATE gateway.notes SET woken_at = clock_timestamp() FROM woken WHERE notes.id = woken.id;

-- name: unwoken
-- Entries whose job was not woken for longer than a live gateway takes, a page at a time. They may come from any gateway,
-- also from one that has died.
SELECT id, job_id, position
FROM gateway.notes
WHERE woken_at IS NULL AND position > $1 AND accepted_at < clock_timestamp() - $2::interval
ORDER BY position
LIMIT $3;

-- name: payload_of
SELECT payload FROM gateway.notes WHERE id = $1;
