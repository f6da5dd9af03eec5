-- What the holder of a job said last of how far it is. It counts only while the lease under which it was said
-- runs, so nothing has to forget it. Not in any index: saying it leaves the row on its page.
ALTER TABLE scheduler.jobs
    ADD COLUMN progress_lease    bigint NOT NULL DEFAULT 0,
    ADD COLUMN progress_fraction float8,
    ADD COLUMN progress_note     text   NOT NULL DEFAULT '',
    ADD COLUMN progress_at       timestamptz;
