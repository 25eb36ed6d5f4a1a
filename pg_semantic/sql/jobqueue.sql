-- The life cycle of marks and jobs, one statement per transition. docs/explanation/how-a-change-becomes-a-vector.md
-- shows the states.
-- All times are the server's. Locks are taken in key order, in the collation "C". No statement waits for a lock (SKIP
-- LOCKED), except that an INSERT with ON CONFLICT may wait for another of the same key. Locked rows are then found by
-- ctid, and keys are looked up one by one, so that a wrong estimate of the queue's size does no harm: the planner has no
-- statistics for marks that one large statement has just written, and outdated ones for jobs, which come and go. A job
-- that another transaction changed between snapshot and lock has a new ctid and is left out.

-- name: fold
-- Turns marks of a generation and priority into jobs, oldest first: a new job, or a new version of the existing one. A
-- new version voids a claim, so the worker that holds it writes nothing, and the row can be claimed again at once. A
-- job keeps the better of both priorities. Marks whose job is locked are left for the next time. A mark without a key
-- restarts the backfill. A key too long for the job table's index is dropped.
WITH picked AS MATERIALIZED (
    SELECT ctid AS place, key
    FROM semantic.mark
    WHERE generation_id = :generation AND priority = :priority
    ORDER BY marked_at
    LIMIT :marks
    FOR UPDATE SKIP LOCKED
),
known AS MATERIALIZED (
    SELECT marked.key, free.locked,
           (SELECT true FROM semantic.job WHERE job.generation_id = :generation AND job.key = marked.key) AS there
    FROM (SELECT DISTINCT key FROM picked WHERE key IS NOT NULL ORDER BY key) AS marked
    LEFT JOIN LATERAL (
        SELECT true AS locked
        FROM semantic.job
        WHERE job.generation_id = :generation AND job.key = marked.key
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
),
taken AS (
    DELETE FROM semantic.mark
    WHERE ctid = ANY (ARRAY(
        SELECT place
        FROM picked
        WHERE key IS NULL OR key NOT IN (SELECT known.key FROM known WHERE known.locked IS NULL AND known.there)
    ))
    RETURNING mark.key, mark.marked_at
),
restarted AS (
    UPDATE semantic.generation
    SET backfill_after = NULL, backfilled_at = NULL, backfill_rows = 0, stale_since = coalesce(stale_since, now())
    WHERE id = :generation AND EXISTS (SELECT FROM taken WHERE key IS NULL)
)
INSERT INTO semantic.job AS job (generation_id, key, priority, dirty_at)
SELECT :generation, key, :priority, min(marked_at)
FROM taken
WHERE octet_length(key) <= 2600
GROUP BY key
ORDER BY key
ON CONFLICT (generation_id, key) DO UPDATE
SET version = job.version + 1, state = 'pending', claim = NULL, lease_until = NULL,
    priority = least(job.priority, excluded.priority), attempts = 0, claim_limit = NULL, error = NULL,
    available_at = least(job.available_at, now())

-- name: ready
-- Which of these generations have jobs to claim, marks to fold or rows for a first backfill, and at which priority.
-- Probes two indexes for each: an ordered LIMIT is a single probe whatever the planner estimates, while an EXISTS
-- without a match may read a long queue. Runs with the role's search_path, so it names the schema of the function.
SELECT generation.id, kind.priority
FROM pg_catalog.unnest(CAST(:generations AS integer[])) AS generation (id)
CROSS JOIN (VALUES (CAST(0 AS smallint)), (CAST(1 AS smallint))) AS kind (priority)
WHERE (
    SELECT available_at <= now()
    FROM semantic.job
    WHERE generation_id = generation.id AND priority = kind.priority AND state = 'pending'
    ORDER BY available_at
    LIMIT 1
)
OR (
    SELECT true
    FROM semantic.mark
    WHERE mark.generation_id = generation.id AND mark.priority = kind.priority
    ORDER BY marked_at
    LIMIT 1
)
OR kind.priority = 1 AND EXISTS (
    SELECT FROM semantic.generation AS unread
    WHERE unread.id = generation.id AND unread.backfilled_at IS NULL AND unread.stale_since IS NULL
)

-- name: claim
-- Claims the oldest pending jobs of a generation and priority, in any order. Jobs that a lost worker had claimed are
-- claimed with others that have the same limit, in no larger groups than that. A job that must be alone isn't claimed
-- by a worker that holds other claims: if that worker is lost too, this job was the cause. Then the only row has no key
-- and the limit 1.
WITH waiting AS MATERIALIZED (
    SELECT ctid AS place, available_at, claim_limit
    FROM semantic.job
    WHERE generation_id = :generation AND priority = :priority AND state = 'pending' AND available_at <= now()
    ORDER BY available_at
    LIMIT :rows
    FOR UPDATE SKIP LOCKED
),
oldest AS MATERIALIZED (
    SELECT claim_limit FROM waiting ORDER BY available_at LIMIT 1
),
taken AS MATERIALIZED (
    SELECT waiting.place
    FROM waiting JOIN oldest ON waiting.claim_limit IS NOT DISTINCT FROM oldest.claim_limit
    WHERE oldest.claim_limit IS DISTINCT FROM 1 OR NOT CAST(:holds_others AS boolean)
    ORDER BY waiting.available_at
    LIMIT (SELECT claim_limit FROM oldest)
),
claimed AS (
    UPDATE semantic.job
    SET state = 'processing', claim = :claim, attempts = attempts + 1,
        lease_until = now() + make_interval(secs => :lease)
    WHERE ctid = ANY (ARRAY(SELECT place FROM taken))
    RETURNING key, version, available_at
)
SELECT claimed.key, claimed.version, claimed.available_at, oldest.claim_limit
FROM oldest LEFT JOIN claimed ON true

-- name: hold
-- Locks the jobs of a claim that are unchanged since they were claimed, until the end of the transaction. Looks up each
-- one separately, because a plan for all of them together may read every job of the generation.
SELECT held.key
FROM (
    SELECT key, version
    FROM unnest(CAST(:keys AS text[]), CAST(:versions AS bigint[])) AS claimed (key, version)
    ORDER BY key COLLATE "C"
) AS mine
CROSS JOIN LATERAL (
    SELECT job.key
    FROM semantic.job
    WHERE job.generation_id = :generation AND job.key = mine.key AND job.version = mine.version AND job.claim = :claim
    FOR UPDATE SKIP LOCKED
) AS held

-- name: complete
-- Deletes finished jobs, which this transaction has locked.
DELETE FROM semantic.job
WHERE ctid = ANY (ARRAY(
    SELECT held.place
    FROM unnest(CAST(:keys AS text[])) AS mine (key)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM semantic.job WHERE generation_id = :generation AND job.key = mine.key LIMIT 1
    ) AS held
))

-- name: release
-- Gives up the rest of a claim: its jobs are available again after a delay, and this does not count as an attempt.
-- Returns the keys of jobs that another transaction has locked, because they may still belong to the claim once they
-- are unlocked.
WITH given AS MATERIALIZED (
    SELECT key FROM unnest(CAST(:keys AS text[])) AS given (key) ORDER BY key COLLATE "C"
),
mine AS MATERIALIZED (
    SELECT held.place
    FROM given
    CROSS JOIN LATERAL (
        SELECT ctid AS place
        FROM semantic.job
        WHERE generation_id = :generation AND job.key = given.key AND claim = :claim
        FOR UPDATE SKIP LOCKED
    ) AS held
),
released AS (
    UPDATE semantic.job
    SET state = 'pending', claim = NULL, lease_until = NULL, attempts = attempts - 1,
        available_at = now() + make_interval(secs => :delay)
    WHERE ctid = ANY (ARRAY(SELECT place FROM mine))
    RETURNING key
)
SELECT given.key
FROM given
CROSS JOIN LATERAL (
    SELECT FROM semantic.job
    WHERE generation_id = :generation AND job.key = given.key AND claim = :claim
    LIMIT 1
) AS held
WHERE given.key NOT IN (SELECT key FROM released)

-- name: fail
-- Records a failure. The job is retried with back-off and jitter, or parked as failed after the last attempt. A job
-- that another transaction has locked is left: the worker then releases it, without an attempt.
WITH mine AS MATERIALIZED (
    SELECT key
    FROM semantic.job
    WHERE generation_id = :generation AND claim = :claim AND key = :key AND version = :version
    FOR UPDATE SKIP LOCKED
)
UPDATE semantic.job
SET state = CASE WHEN attempts < :max_attempts THEN 'pending' ELSE 'failed' END,
    claim = NULL, lease_until = NULL, error = :error,
    available_at = now() + make_interval(
        secs => least(CAST(:retry AS double precision) * 2 ^ least(attempts - 1, 20) * (0.5 + random()), 3600))
FROM mine
WHERE job.generation_id = :generation AND job.key = mine.key

-- name: heartbeat
-- Extends the leases of claims that are still in progress.
WITH mine AS MATERIALIZED (
    SELECT ctid AS place
    FROM semantic.job
    WHERE state = 'processing' AND claim = ANY (CAST(:claims AS uuid[]))
    ORDER BY generation_id, key
    FOR UPDATE SKIP LOCKED
)
UPDATE semantic.job
SET lease_until = now() + make_interval(secs => :lease)
WHERE ctid = ANY (ARRAY(SELECT place FROM mine))

-- name: reap
-- Frees the jobs of workers that no longer send heartbeats. Any job of a claim may be what ended its worker, so they are
-- retried in groups of an eighth of their number, in random order. That is no attempt: only a job that was claimed alone
-- is known to be the cause. It is parked if it has no attempts left.
WITH lost AS MATERIALIZED (
    SELECT ctid AS place, claim
    FROM semantic.job
    WHERE state = 'processing' AND lease_until < now()
    ORDER BY generation_id, key
    FOR UPDATE SKIP LOCKED
),
claims AS MATERIALIZED (
    SELECT claim, greatest(CAST(count(*) AS integer) / 8, 1) AS claim_limit FROM lost GROUP BY claim
)
UPDATE semantic.job
SET state = CASE WHEN job.claim_limit = 1 AND attempts >= :max_attempts THEN 'failed' ELSE 'pending' END,
    attempts = attempts - CASE WHEN job.claim_limit = 1 THEN 0 ELSE 1 END,
    claim_limit = claims.claim_limit, claim = NULL, lease_until = NULL,
    available_at = now() + make_interval(
        secs => least(CAST(:retry AS double precision) * 2 ^ least(attempts - 1, 20) * random(), 3600)),
    error = 'the worker that had claimed this row stopped sending heartbeats'
FROM claims
WHERE job.ctid = ANY (ARRAY(SELECT place FROM lost)) AND claims.claim = job.claim

-- name: enqueue
-- Creates jobs for rows that have none yet, behind all edits. Voids claims on the others, because the rows may have
-- changed past the triggers since a worker read them; that does not count as an attempt.
INSERT INTO semantic.job AS job (generation_id, key, priority)
SELECT :generation, wanted.key, 1
FROM unnest(CAST(:keys AS text[])) AS wanted (key)
WHERE octet_length(wanted.key) <= 2600
ORDER BY wanted.key COLLATE "C"
ON CONFLICT (generation_id, key) DO UPDATE
SET version = job.version + 1, state = 'pending', claim = NULL, lease_until = NULL, attempts = job.attempts - 1
WHERE job.state = 'processing'

-- name: requeue
-- Queues rows that must be checked again, as folding a mark does, so a worker that is processing such a row writes
-- nothing.
INSERT INTO semantic.job AS job (generation_id, key)
SELECT :generation, wanted.key
FROM unnest(CAST(:keys AS text[])) AS wanted (key)
WHERE octet_length(wanted.key) <= 2600
ORDER BY wanted.key COLLATE "C"
ON CONFLICT (generation_id, key) DO UPDATE
SET version = job.version + 1, state = 'pending', claim = NULL, lease_until = NULL,
    attempts = 0, claim_limit = NULL, error = NULL, available_at = least(job.available_at, now())

-- name: retry
-- Puts parked jobs back into the queue as if they had never been tried: all jobs of a generation, or those with certain
-- keys.
UPDATE semantic.job
SET state = 'pending', attempts = 0, claim_limit = NULL, error = NULL, available_at = now()
WHERE generation_id = :generation AND state = 'failed'
  AND (CAST(:keys AS text[]) IS NULL OR key = ANY (CAST(:keys AS text[])))
RETURNING key

-- name: waiting
-- Counts the marks of a generation and its jobs that aren't parked, for one priority or both. The limit makes a long
-- queue as cheap to count as a short one.
SELECT count(*) FROM (
    SELECT FROM semantic.job
    WHERE generation_id = :generation AND state <> 'failed'
      AND (CAST(:priority AS smallint) IS NULL OR priority = CAST(:priority AS smallint))
    UNION ALL
    SELECT FROM semantic.mark
    WHERE generation_id = :generation
      AND (CAST(:priority AS smallint) IS NULL OR priority = CAST(:priority AS smallint))
    LIMIT :limit
) AS bounded

-- name: failures
-- The parked jobs of a generation with their errors, newest first.
SELECT key, attempts, error
FROM semantic.job
WHERE generation_id = :generation AND state = 'failed'
ORDER BY available_at DESC, key
LIMIT :limit

-- name: sweep_settings
-- Limits how long a sweep runs and waits for locks, whatever the role or the database sets.
SELECT set_config('statement_timeout', '60s', true), set_config('lock_timeout', '200ms', true)

-- name: sweep
-- Deletes some of the marks and jobs that dropped copies left behind; returns how many.
SELECT semantic.delete_orphaned_jobs_v1(10000)

-- name: may_vacuum
-- Whether the role may vacuum the job table, which is for its owner and, from PostgreSQL 17 on, for MAINTAIN. Runs with
-- the role's search_path, so it names the schema of each function.
SELECT pg_catalog.pg_has_role(relowner, 'USAGE') OR CASE
           WHEN CAST(pg_catalog.current_setting('server_version_num') AS integer) >= 170000
               THEN pg_catalog.has_table_privilege(oid, 'MAINTAIN')
           ELSE false
       END
FROM pg_catalog.pg_class
WHERE oid = CAST('semantic.job' AS regclass)

-- name: vacuum
-- Makes the space of finished jobs available to new ones.
VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE OFF) semantic.job
