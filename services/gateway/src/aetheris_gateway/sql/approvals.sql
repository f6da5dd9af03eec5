-- name: open_approval
-- Opening the same approval again changes nothing; then no row is returned.
INSERT INTO gateway.approvals (
    id, tenant, job_id, path, approver, title, detail, arguments, requester, requester_may_decide, quorum, deadline
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT ON CONSTRAINT approvals_once DO NOTHING
RETURNING id;

-- name: standing_approval
-- The caller answers by it, so it waits until a standby has what it found, like `standing_signals`.
SELECT id, (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed
FROM gateway.approvals WHERE job_id = $1 AND tenant = $2 AND path = $3;

-- name: approval
SELECT * FROM gateway.approvals WHERE id = $1 AND tenant = $2;

-- name: approval_to_decide
-- The lock is held until the decision is written: of two decisions at one moment, the second sees the first.
SELECT * FROM gateway.approvals WHERE id = $1 AND tenant = $2 FOR UPDATE;

-- name: approvals
-- A page in the order in which they were opened. An approval after its deadline counts as expired, although its row may
-- still say pending. A person or role to whom a vote was delegated counts as an approver.
--
-- The page ends after $8 bytes, but has at least one approval; `found` is how many there are up to the limit.
SELECT * FROM (
    SELECT page.*, count(*) OVER () AS found,
        sum(weighed.bytes) OVER (ORDER BY page.id) - weighed.bytes AS bytes_before
    FROM (
        SELECT approval.*
        FROM gateway.approvals AS approval
        WHERE approval.tenant = $1
            AND ($2::uuid IS NULL OR approval.id > $2)
            AND CASE WHEN approval.state = 1 AND approval.deadline <= $3 THEN 4 ELSE approval.state END
                = ANY($4::smallint[])
            AND ($5::uuid IS NULL OR approval.job_id = $5)
            AND (
                $6::text = '' OR approval.approver = $6 OR EXISTS (
                    SELECT FROM gateway.decisions AS decision
                    WHERE decision.approval_id = approval.id AND decision.delegate = $6
                )
            )
        ORDER BY approval.id
        LIMIT $7
    ) AS page
    CROSS JOIN LATERAL (
        SELECT octet_length(page.detail) + octet_length(page.arguments) + coalesce(
            sum(octet_length(decision.edited) + coalesce(octet_length(decision.difference), 0)), 0
        ) AS bytes
        FROM gateway.decisions AS decision WHERE decision.approval_id = page.id
    ) AS weighed
) AS fitting
WHERE bytes_before < $8
ORDER BY id;

-- name: pending_approvals
-- The same for pending approvals, the most frequent request, from an index that holds only those.
SELECT * FROM (
    SELECT page.*, count(*) OVER () AS found,
        sum(weighed.bytes) OVER (ORDER BY page.id) - weighed.bytes AS bytes_before
    FROM (
        SELECT approval.*
        FROM gateway.approvals AS approval
        WHERE approval.tenant = $1
            AND approval.state = 1
            AND ($2::uuid IS NULL OR approval.id > $2)
            AND (approval.deadline IS NULL OR approval.deadline > $3)
            AND ($4::uuid IS NULL OR approval.job_id = $4)
            AND (
                $5::text = '' OR approval.approver = $5 OR EXISTS (
                    SELECT FROM gateway.decisions AS decision
                    WHERE decision.approval_id = approval.id AND decision.delegate = $5
                )
            )
        ORDER BY approval.id
        LIMIT $6
    ) AS page
    CROSS JOIN LATERAL (
        SELECT octet_length(page.detail) + octet_length(page.arguments) + coalesce(
            sum(octet_length(decision.edited) + coalesce(octet_length(decision.difference), 0)), 0
        ) AS bytes
        FROM gateway.decisions AS decision WHERE decision.approval_id = page.id
    ) AS weighed
) AS fitting
WHERE bytes_before < $7
ORDER BY id;

-- name: decisions
SELECT * FROM gateway.decisions WHERE approval_id = ANY($1::uuid[]) ORDER BY approval_id, place;

-- name: add_decision
INSERT INTO gateway.decisions (approval_id, place, actor, verdict, comment, edited, delegate, decided_at, difference)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: set_approval_state
UPDATE gateway.approvals SET state = $2 WHERE id = $1;

-- name: close_approvals
-- One pending approval of a job, or all of them; a decided one stays as it is. Locked in the order of ids.
WITH open AS (
    SELECT id FROM gateway.approvals
    WHERE job_id = $1 AND tenant = $2 AND ($3::text = '' OR path = $3) AND state = 1
    ORDER BY id
    FOR UPDATE
)
UPDATE gateway.approvals SET state = $4 FROM open WHERE approvals.id = open.id
RETURNING approvals.id;
