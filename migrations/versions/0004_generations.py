"""Generations: several copies of a semantic index, kept true side by side, one of them live.

The tables of a copy are named after its role, and renamed when that changes. Two views have the copy's own number in
their names, which stays: who reads and writes through these never meets another copy.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

COLUMNS = "ALTER TABLE semantic.generation ADD COLUMN role_since timestamptz NOT NULL DEFAULT now()"

FUNCTIONS = (
    # A view has the rights of who asks, so what it needs to be granted is granted to all.
    """
    CREATE FUNCTION semantic.expose_v1(generation_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        shown record;
    BEGIN
        FOR shown IN
            SELECT 'chunks_' || id AS name, chunks AS relation FROM semantic.generation WHERE id = generation_id
            UNION ALL
            SELECT 'receipts_' || id, receipts FROM semantic.generation WHERE id = generation_id
        LOOP
            EXECUTE format(
                'CREATE VIEW semantic.%I WITH (security_invoker) AS SELECT * FROM %s', shown.name, shown.relation
            );
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON semantic.%I TO PUBLIC', shown.name);
        END LOOP;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.register_index_v2(
        index_name text, index_source regclass, index_chunks regclass, index_receipts regclass,
        index_encoder_id bigint, index_spec jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        made integer;
    BEGIN
        PERFORM semantic.unregister_index_v2(generation.chunks)  -- of tables dropped without a word to us
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source);
        made := semantic.register_index_v1(
            index_name, index_source, index_chunks, index_receipts, index_encoder_id, index_spec
        );
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # Drops the tables of a copy, its views, and what is known of it. The tables of the live one are left to who calls.
    """
    CREATE FUNCTION semantic.forget_generation_v1(generation_id integer, and_tables boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone semantic.generation;
    BEGIN
        SELECT * INTO gone FROM semantic.generation WHERE id = generation_id;
        PERFORM pg_cancel_backend(build.pid)  -- a build of an index, with which the drop might wait in a circle
        FROM pg_stat_progress_create_index AS build
        JOIN pg_stat_activity AS builder ON builder.pid = build.pid
        WHERE build.relid IN (gone.chunks, gone.receipts) AND pg_has_role(builder.usesysid, 'USAGE');
        EXECUTE format('DROP VIEW IF EXISTS semantic.%I, semantic.%I', 'chunks_' || gone.id, 'receipts_' || gone.id);
        IF and_tables THEN
            EXECUTE format('DROP TABLE IF EXISTS %s, %s', gone.chunks, gone.receipts);
        END IF;
        DELETE FROM semantic.job WHERE job.generation_id = gone.id;
        DELETE FROM semantic.mark WHERE mark.generation_id = gone.id;
        DELETE FROM semantic.generation WHERE id = gone.id;
        DELETE FROM semantic.encoder
        WHERE id = gone.encoder_id
          AND NOT EXISTS (SELECT FROM semantic.generation WHERE generation.encoder_id = encoder.id);
    END
    $body$
    """,
    # Drops a copy that has this role, and has had it for some seconds: searchers may ask one that was live before.
    """
    CREATE FUNCTION semantic.drop_generation_v1(generation_id integer, expected text, seconds double precision)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known semantic.generation;
    BEGIN
        SELECT * INTO known FROM semantic.generation WHERE id = generation_id FOR UPDATE;
        IF known.role IS DISTINCT FROM expected OR known.role = 'live'
            OR known.role_since > clock_timestamp() - make_interval(secs => seconds) THEN
            RAISE EXCEPTION 'generation % is not % any more, or only since a moment ago', generation_id, expected
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Look at its status, and try again.';
        END IF;
        PERFORM semantic.forget_generation_v1(generation_id, true);
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.unregister_index_v2(index_chunks regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone integer := (SELECT index_id FROM semantic.generation WHERE chunks = index_chunks);
    BEGIN
        PERFORM semantic.forget_generation_v1(id, chunks <> index_chunks)
        FROM semantic.generation
        WHERE index_id = gone
        ORDER BY id DESC;
        DELETE FROM semantic.semantic_index WHERE id = gone;
    END
    $body$
    """,
    # What makes two copies different; a spec that is older than BM25 says nothing of it.
    """
    CREATE FUNCTION semantic.recipe_v1(spec jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN jsonb_build_object('lexical', NULL) || (spec - '{name,table,schema,key}'::text[])
    """,
    # Makes the function of the capture, which marks a row for all copies when a column changes that any is made of: so
    # only the registry can say which columns these are. Waits for writers whose changes were not marked for all.
    """
    CREATE FUNCTION semantic.watch_v1(index_name text, index_source regclass, function_name text, statement text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        place record;
    BEGIN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', index_source);
        FOR place IN
            SELECT '/*function*/' AS mark, format('%I.%I', nspname, function_name) AS filling
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = index_source
            UNION ALL
            SELECT '/*generations*/', CAST(array_agg(generation.id ORDER BY generation.id) AS text)
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            WHERE semantic_index.name = index_name AND semantic_index.source = index_source
            UNION ALL
            SELECT rows.mark, replace(
                string_agg(DISTINCT format('CAST(%s.%I AS TEXT) COLLATE "C"', rows.alias, named.value), ', '),
                '''', ''''''
            )
            FROM (VALUES ('/*old_text*/', 'old_rows'), ('/*new_text*/', 'new_rows')) AS rows (mark, alias)
            CROSS JOIN semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            CROSS JOIN jsonb_array_elements_text(generation.spec -> 'columns') AS named (value)
            WHERE semantic_index.name = index_name AND semantic_index.source = index_source
            GROUP BY rows.mark
        LOOP
            statement := replace(statement, place.mark, place.filling);
        END LOOP;
        EXECUTE statement;
    END
    $body$
    """,
    # Makes sure that an index is as a change expects it to be: live, or to come, and then abandoned for what comes now.
    """
    CREATE FUNCTION semantic.prepare_generation_v1(index_name text, index_source regclass, was jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        newest record;
    BEGIN
        SELECT id, role, semantic.recipe_v1(spec) AS recipe INTO newest
        FROM semantic.generation
        WHERE index_id = known_index AND role IN ('live', 'next')
        ORDER BY role DESC
        LIMIT 1;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no semantic index % on table %', index_name, index_source
            USING ERRCODE = 'undefined_object';
        ELSIF newest.recipe <> semantic.recipe_v1(was) THEN
            RAISE EXCEPTION 'semantic index % is not what this change was made for: its % copy is %, and not %',
                index_name, newest.role, newest.recipe, semantic.recipe_v1(was)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'A copy that is being built has to be switched to, or dropped, first.';
        ELSIF newest.role = 'next' THEN
            PERFORM semantic.forget_generation_v1(newest.id, true);
        END IF;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.begin_generation_v1(
        index_name text, index_source regclass, next_chunks regclass, next_receipts regclass,
        next_encoder_id bigint, target jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        made integer;
    BEGIN
        PERFORM CAST(target #>> '{lexical,config}' AS regconfig);
        INSERT INTO semantic.encoder (id, reference, dimensions)
        VALUES (next_encoder_id, target #>> '{encoder,reference}', (target #>> '{encoder,dimensions}')::integer)
        ON CONFLICT DO NOTHING;
        INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
        VALUES (known_index, 'next', next_encoder_id, next_chunks, next_receipts, target)
        RETURNING id INTO made;
        PERFORM semantic.same_rights_v1(chunks, next_chunks), semantic.same_rights_v1(receipts, next_receipts)
        FROM semantic.generation
        WHERE index_id = known_index AND role = 'live';
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # A table, and the indexes that are named after it.
    """
    CREATE FUNCTION semantic.rename_v1(relation regclass, stem text, new_stem text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        named record;
    BEGIN
        FOR named IN
            SELECT 'INDEX' AS kind, CAST(CAST(indexrelid AS regclass) AS text) AS old, relname AS name
            FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = relation AND starts_with(relname, stem)
            UNION ALL
            SELECT 'TABLE', CAST(relation AS text), relname FROM pg_class WHERE oid = relation
        LOOP
            EXECUTE format(
                'ALTER %s %s RENAME TO %I', named.kind, named.old, new_stem || substr(named.name, length(stem) + 1)
            );
        END LOOP;
    END
    $body$
    """,
    # Who owns and may use the live copy, owns and may use another.
    """
    CREATE FUNCTION semantic.same_rights_v1(live regclass, other regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        here pg_class;
        there pg_class;
        granted record;
    BEGIN
        SELECT * INTO here FROM pg_class WHERE oid = live;
        SELECT * INTO there FROM pg_class WHERE oid = other;
        IF here.relrowsecurity AND NOT there.relrowsecurity THEN
            RAISE EXCEPTION '% has row-level security, and % has not', live, other
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Enable it there, with the policies that the live copy has.';
        ELSIF here.relowner <> there.relowner THEN
            EXECUTE format('ALTER TABLE %s OWNER TO %s', other, CAST(here.relowner AS regrole));
        END IF;
        FOR granted IN
            SELECT privilege_type, is_grantable,
                   CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END AS grantee
            FROM aclexplode(here.relacl)
            WHERE grantee <> here.relowner
        LOOP
            EXECUTE format(
                'GRANT %s ON %s TO %s%s', granted.privilege_type, other, granted.grantee,
                CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            );
        END LOOP;
    END
    $body$
    """,
    # A copy of this role becomes live; the one that was becomes the previous one, or next again when it goes back.
    """
    CREATE FUNCTION semantic.switch_generation_v1(generation_id integer, switched text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        stem text;
        becomes text := CASE switched WHEN 'next' THEN 'previous' ELSE 'next' END;
        live semantic.generation;
        chosen semantic.generation;
    BEGIN
        SELECT * INTO chosen FROM semantic.generation WHERE id = generation_id AND role = switched FOR UPDATE;
        SELECT * INTO live FROM semantic.generation WHERE index_id = chosen.index_id AND role = 'live' FOR UPDATE;
        SELECT name INTO stem FROM semantic.semantic_index WHERE id = chosen.index_id;
        IF live.id IS NULL OR chosen.id IS NULL OR switched = 'live' THEN
            RAISE EXCEPTION 'generation % is not % any more: somebody else was at it', generation_id, switched
            USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF EXISTS (SELECT FROM semantic.generation WHERE index_id = live.index_id AND role = becomes) THEN
            RAISE EXCEPTION 'semantic index % has a % copy already', stem, becomes
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Drop that copy first.';
        END IF;
        EXECUTE format(
            'LOCK TABLE %s, %s, %s, %s IN ACCESS EXCLUSIVE MODE',
            live.chunks, live.receipts, chosen.chunks, chosen.receipts
        );
        PERFORM semantic.same_rights_v1(live.chunks, chosen.chunks);
        PERFORM semantic.same_rights_v1(live.receipts, chosen.receipts);
        PERFORM semantic.rename_v1(relation, stem, stem || '__' || becomes)
        FROM unnest(ARRAY[live.chunks, live.receipts]) AS relation;
        PERFORM semantic.rename_v1(relation, stem || '__' || switched, stem)
        FROM unnest(ARRAY[chosen.chunks, chosen.receipts]) AS relation;
        UPDATE semantic.generation SET role = becomes, role_since = now() WHERE id = live.id;
        UPDATE semantic.generation SET role = 'live', role_since = now() WHERE id = chosen.id;
    END
    $body$
    """,
    # Takes the begin of a copy back, whether it is live by now or not.
    """
    CREATE FUNCTION semantic.withdraw_generation_v1(
        index_name text, index_source regclass, target jsonb, was jsonb
    ) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
    BEGIN
        IF EXISTS (
            SELECT FROM semantic.generation
            WHERE index_id = known_index AND role = 'live'
              AND semantic.recipe_v1(spec) = semantic.recipe_v1(target)
        ) AND EXISTS (
            SELECT FROM semantic.generation
            WHERE index_id = known_index AND role = 'previous' AND semantic.recipe_v1(spec) = semantic.recipe_v1(was)
        ) THEN
            PERFORM semantic.switch_generation_v1(id, 'previous')
            FROM semantic.generation
            WHERE index_id = known_index AND role = 'previous';
        END IF;
        PERFORM semantic.forget_generation_v1(id, true)
        FROM semantic.generation
        WHERE index_id = known_index AND role = 'next' AND semantic.recipe_v1(spec) = semantic.recipe_v1(target);
        IF EXISTS (
            SELECT FROM semantic.generation
            WHERE index_id = known_index AND role = 'live' AND semantic.recipe_v1(spec) <> semantic.recipe_v1(was)
        ) THEN
            IF NOT FOUND THEN
                RAISE EXCEPTION 'semantic index % can not go back: the copy before was dropped, or changed since',
                    index_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Declare what is wanted, and make a migration for that.';
            END IF;
            RAISE WARNING 'semantic index % is live as it was before the copy that this one took the place of',
                index_name
            USING HINT = 'To have that copy again, begin it anew.';
        END IF;
    END
    $body$
    """,
    # What a statement asks before it compares a vector with those of a table.
    """
    CREATE FUNCTION semantic.require_encoder_v1(index_chunks regclass, asked text, asked_dimensions integer)
    RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known record;
    BEGIN
        SELECT encoder.reference, encoder.dimensions INTO known
        FROM semantic.generation
        JOIN semantic.encoder ON encoder.id = generation.encoder_id
        WHERE generation.chunks = index_chunks;
        IF known.reference = asked AND known.dimensions = asked_dimensions THEN
            RETURN true;
        END IF;
        RAISE EXCEPTION '% has vectors of encoder % (% dimensions), and the query vector is of % (% dimensions)',
            index_chunks, known.reference, known.dimensions, asked, asked_dimensions
        USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The index was switched to another encoder, or is declared with one that it has not got yet.';
    END
    $body$
    """,
)


def upgrade() -> None:
    for statement in (COLUMNS, *FUNCTIONS):
        op.execute(statement)
    op.execute("SELECT semantic.expose_v1(id) FROM semantic.generation")


def downgrade() -> None:
    op.execute("""
        DO $body$
        BEGIN
            IF EXISTS (SELECT FROM semantic.generation WHERE role <> 'live') THEN
                RAISE EXCEPTION 'there are semantic indexes of several generations'
                USING ERRCODE = 'dependent_objects_still_exist',
                    HINT = 'Drop those that are not live, with pg-semantic generation drop.';
            END IF;
            EXECUTE coalesce(
                (SELECT string_agg(format('DROP VIEW semantic.chunks_%s, semantic.receipts_%s', id, id), ';')
                 FROM semantic.generation),
                'SELECT'
            );
        END
        $body$
    """)
    op.execute(
        "DROP FUNCTION semantic.require_encoder_v1, semantic.withdraw_generation_v1, "
        "semantic.switch_generation_v1, semantic.rename_v1, semantic.begin_generation_v1, "
        "semantic.prepare_generation_v1, semantic.watch_v1, semantic.recipe_v1, "
        "semantic.same_rights_v1, semantic.drop_generation_v1, "
        "semantic.unregister_index_v2, semantic.forget_generation_v1, semantic.register_index_v2, semantic.expose_v1"
    )
    op.execute("ALTER TABLE semantic.generation DROP COLUMN role_since")
