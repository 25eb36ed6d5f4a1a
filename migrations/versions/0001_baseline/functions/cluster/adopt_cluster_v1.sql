-- Makes this cluster the one whose workers process the jobs; returns whether it was another one before. If so, the
-- claims of the workers there end, and every row is compared again, because a restore or a subscription may have
-- bypassed capture.
CREATE FUNCTION semantic.adopt_cluster_v1() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    here bigint := semantic.system_identifier_v1();
    moved boolean;
BEGIN
    IF here IS NULL OR (SELECT array_agg(system_identifier) = ARRAY[here] FROM semantic.cluster) THEN
        RETURN false;
    END IF;
    LOCK TABLE semantic.cluster IN EXCLUSIVE MODE;
    moved := EXISTS (SELECT FROM semantic.cluster WHERE system_identifier <> here);
    DELETE FROM semantic.cluster;
    INSERT INTO semantic.cluster (system_identifier) VALUES (here);
    IF moved THEN
        UPDATE semantic.job
        SET version = version + 1, state = 'pending', claim = NULL, lease_until = NULL
        WHERE state = 'processing';
        PERFORM semantic.restart_backfill_v1(id, 'the database came from another cluster', true)
        FROM semantic.semantic_index;
    END IF;
    RETURN moved;
END
$body$;
