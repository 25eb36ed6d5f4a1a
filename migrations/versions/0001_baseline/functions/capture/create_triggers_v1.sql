-- Creates the missing triggers and corrects altered ones; returns the relations. Triggers that someone disabled stay
-- disabled unless `enable` is true. The row triggers are created on the source, and Postgres creates them on every
-- partition. Indexes from before the row triggers have no function for them.
CREATE FUNCTION semantic.create_triggers_v1(
    index_source regclass, capture regproc, stem text, enable boolean DEFAULT false
) RETURNS SETOF regclass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    missing record;
    replica text := (
        SELECT format('%I.%I', nspname, proname || '_replica')
        FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE pg_proc.oid = capture
    );
BEGIN
    FOR missing IN
        SELECT found.*, CAST(relowner AS regrole) AS owner, pg_has_role(current_user, relowner, 'USAGE') AS is_ours
        FROM semantic.missing_triggers_v1(index_source, stem) AS found
        JOIN pg_class ON pg_class.oid = found.relation
        WHERE enable OR found.state <> 'disabled'
        ORDER BY found.relation <> index_source
    LOOP
        IF NOT missing.is_ours THEN
            RAISE EXCEPTION 'only a member of %, which owns table %, can create its triggers: GRANT % TO %',
                missing.owner, missing.relation, missing.owner, quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF missing.event NOT IN ('replica', 'parent') THEN
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                stem || '_' || missing.event, missing.event, missing.relation, missing.transition, capture
            );
        ELSIF to_regproc(replica) IS NULL THEN
            CONTINUE;
        ELSIF missing.relation = index_source AND missing.state = 'missing' THEN
            EXECUTE format(
                'CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW %s EXECUTE FUNCTION %s()',
                stem || '_' || missing.event, missing.relation,
                CASE missing.event WHEN 'replica'
                    THEN 'WHEN (current_setting(''session_replication_role'') = ''replica'')' ELSE '' END,
                replica
            );
        END IF;
        EXECUTE format(
            'ALTER TABLE %s ENABLE %s TRIGGER %I', missing.relation,
            CASE missing.event WHEN 'truncate' THEN 'ALWAYS' WHEN 'replica' THEN 'REPLICA' ELSE '' END,
            stem || '_' || missing.event
        );
        RETURN NEXT missing.relation;
    END LOOP;
    PERFORM semantic.record_capture_state_v1(id)
    FROM semantic.semantic_index
    WHERE source = index_source AND name || '_capture' = stem;
END
$body$;
