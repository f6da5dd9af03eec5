-- What earlier releases of the scheduler claimed by.

DROP INDEX scheduler.jobs_ready;
DROP INDEX scheduler.jobs_ending;
DROP FUNCTION scheduler.served(text, text);
