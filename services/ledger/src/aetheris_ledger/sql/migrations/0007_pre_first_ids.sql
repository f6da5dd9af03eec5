-- The table of commits becomes the first partition of a partitioned one, in three steps, so that no step reads the table
-- while others wait. This one says which ids it has: those up to a moment behind all that are there and that are made
-- before the last step. A job's id begins with the moment at which it was made.
--
-- The bound is the first of February 2027, or later where that moment is near or over.

DO $$
DECLARE
    bound uuid := '01a36e30-f800-0000-0000-000000000000';
    behind timestamptz := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '2 months';
    soon uuid := (lpad(to_hex((extract(epoch FROM behind) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    newest uuid := (SELECT job_id FROM ledger.commits ORDER BY job_id DESC LIMIT 1);
BEGIN
    IF soon > bound AND newest IS NOT NULL THEN
        bound := soon;
    END IF;
    IF newest >= bound THEN
        -- An id that no clock made. The first partition takes all there are.
        bound := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    END IF;
    EXECUTE format(
        'ALTER TABLE ledger.commits ADD CONSTRAINT commits_first_ids CHECK (job_id < %L::uuid) NOT VALID', bound
    );
END
$$;
