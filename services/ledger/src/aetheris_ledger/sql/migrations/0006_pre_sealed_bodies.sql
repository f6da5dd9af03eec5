-- Commits of format 2: whose each commit is, and the key of each job.

-- NULL in commits of earlier versions, whose tenant stands in the first event of their chain.
ALTER TABLE ledger.commits ADD COLUMN tenant text COLLATE "C";

-- In the first commit of format 2: the job's key, from which the salts of its payloads follow (docs/decisions/0007).
ALTER TABLE ledger.commits ADD COLUMN job_key bytea;
ALTER TABLE ledger.commits ADD CONSTRAINT commits_job_key_check CHECK (octet_length(job_key) = 16);

CREATE INDEX commits_job_keys ON ledger.commits (job_id) WHERE job_key IS NOT NULL;

-- Of a commit only the key can be taken out, to shred it.
CREATE OR REPLACE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
