-- A body may have 2 MiB: an event whose values are each at their own limit fits into one commit.
--
-- Not validated here, because that reads the whole table while the lock is held; the next migration does it.

ALTER TABLE ledger.commits DROP CONSTRAINT commits_body_check;
ALTER TABLE ledger.commits ADD CONSTRAINT commits_body_bytes_check
    CHECK (octet_length(body) BETWEEN 1 AND 2097152) NOT VALID;
