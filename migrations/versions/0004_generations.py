"""Generations: several copies of a semantic index, kept in sync side by side, one of them live.

The tables of a copy are named after its role, and renamed when the role changes. Two views are named after the copy's
id, which never changes: code that reads and writes through them never reaches another copy.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

COLUMNS = (
    "ALTER TABLE semantic.generation ADD COLUMN role_since timestamptz NOT NULL DEFAULT now()",
    "GRANT SELECT (role_since) ON semantic.generation TO PUBLIC",
)

FUNCTIONS = (
    # The roles that can read everything that a copy contains: the key, the text columns and the `rights_by` column of
    # its source. 0 is PUBLIC. A role that the source's grants don't name is left out if it inherits from a role in the
    # result.
    """
    CREATE FUNCTION semantic.readers_v1(generation_id integer) RETURNS SETOF oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH copy AS MATERIALIZED (
            SELECT source.oid AS source, source.relowner, source.relacl, needed.names, needed.numbers
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            JOIN pg_class AS source ON source.oid = semantic_index.source
            CROSS JOIN LATERAL (
                SELECT array_agg(named.name) AS names, array_agg(attnum) AS numbers
                FROM (
                    SELECT jsonb_array_elements_text(spec -> 'columns')
                    UNION
                    SELECT part ->> 'name' FROM jsonb_array_elements(spec -> 'key') AS part
                    UNION
                    SELECT spec ->> 'rights_by' WHERE spec ->> 'rights_by' IS NOT NULL
                ) AS named (name)
                LEFT JOIN pg_attribute
                    ON attrelid = source.oid AND attname = named.name AND attnum > 0 AND NOT attisdropped
            ) AS needed
            WHERE generation.id = readers_v1.generation_id
        ),
        named AS MATERIALIZED (
            SELECT granted.grantee AS role
            FROM copy
            CROSS JOIN LATERAL (
                SELECT relacl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = source AND NOT attisdropped
            ) AS part (acl)
            CROSS JOIN LATERAL aclexplode(part.acl) AS granted
        ),
        reading AS MATERIALIZED (
            SELECT role.oid AS role, role.oid IN (SELECT role FROM named) AS is_named
            FROM copy
            CROSS JOIN (SELECT oid FROM pg_roles WHERE NOT rolsuper UNION ALL SELECT 0) AS role
            WHERE NOT pg_has_role(nullif(role.oid, 0), relowner, 'USAGE') IS TRUE AND (
                has_table_privilege(role.oid, source, 'SELECT')
                OR array_position(numbers, NULL) IS NULL AND NOT EXISTS (
                    SELECT FROM unnest(numbers) AS number
                    WHERE NOT has_column_privilege(role.oid, source, number, 'SELECT')
                )
            )
        )
        SELECT role
        FROM reading
        WHERE is_named OR role = 0 OR role >= 16384  -- roles below are the server's own
          AND NOT EXISTS (SELECT FROM reading AS everybody WHERE everybody.role = 0)
          AND NOT EXISTS (
              SELECT FROM reading AS other
              WHERE other.role <> reading.role
                AND (other.is_named OR other.role >= 16384 AND other.role IN (SELECT roleid FROM pg_auth_members))
                AND pg_has_role(reading.role, other.role, 'USAGE')
          )
    $body$
    """,
    # The database objects of a semantic index, apart from its source: tables, views and functions. The rights to the
    # search function are those to the live copy. Functions that triggers call need no grants.
    """
    CREATE FUNCTION semantic.parts_v1(known_index integer)
    RETURNS TABLE (
        generation_id integer, kind text, part oid, name text, place oid, owner oid, acl aclitem[], privilege text
    )
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT generation.id, part.kind, pg_class.oid, CAST(CAST(pg_class.oid AS regclass) AS text), relnamespace,
               relowner, coalesce(relacl, acldefault('r', relowner)), 'SELECT'
        FROM semantic.generation
        CROSS JOIN LATERAL (
            VALUES ('TABLE', generation.chunks), ('TABLE', generation.receipts),
                   ('VIEW', to_regclass('semantic.chunks_' || generation.id)),
                   ('VIEW', to_regclass('semantic.receipts_' || generation.id))
        ) AS part (kind, relation)
        JOIN pg_class ON pg_class.oid = part.relation
        WHERE generation.index_id = known_index
        UNION ALL
        SELECT live.id, 'FUNCTION', pg_proc.oid, CAST(CAST(pg_proc.oid AS regprocedure) AS text),
               pronamespace, proowner, coalesce(proacl, acldefault('f', proowner)),
               CASE WHEN prorettype <> CAST('trigger' AS regtype) THEN 'EXECUTE' END
        FROM semantic.semantic_index
        JOIN semantic.generation AS live ON live.index_id = semantic_index.id AND live.role = 'live'
        JOIN pg_class AS chunks ON chunks.oid = live.chunks
        JOIN pg_proc ON pronamespace = chunks.relnamespace AND starts_with(proname, semantic_index.name || '_')
        WHERE semantic_index.id = known_index AND (
            proname = semantic_index.name || '_search' AND position('semantic.search_v1(asked' IN prosrc) > 0
            OR starts_with(proname, semantic_index.name || '_capture') AND prorettype = CAST('trigger' AS regtype)
        )
    $body$
    """,
    # The policies of a source that apply to SELECT, if a copy has all columns that they use: the key and the column
    # that the index declares as `rights_by`. They are then the copy's policies too. NULL if they use other columns.
    """
    CREATE FUNCTION semantic.carried_policies_v1(index_source regclass, spec jsonb) RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT CASE WHEN count(*) FILTER (
            WHERE pg_get_expr(polqual, polrelid) LIKE '%' || quote_ident(relname) || '.%'  -- it may name the table
               OR EXISTS (
                   SELECT FROM pg_depend
                   LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
                   WHERE classid = CAST('pg_policy' AS regclass) AND objid = pg_policy.oid
                     AND refclassid = CAST('pg_class' AS regclass) AND refobjid = index_source AND deptype = 'n'
                     AND attname IS DISTINCT FROM spec ->> 'rights_by'
                     AND NOT coalesce(spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname)), false)
               )
        ) = 0 THEN coalesce(array_agg(pg_policy.oid ORDER BY polname), '{}') END
        FROM pg_policy
        JOIN pg_class ON pg_class.oid = polrelid
        WHERE polrelid = index_source AND polcmd IN ('r', '*') AND polqual IS NOT NULL
          AND spec ->> 'rights_by' IS NOT NULL
        HAVING spec ->> 'rights_by' IS NOT NULL
    $body$
    """,
    # The policies that a table of a copy needs; `own` is its name, and `origin` that of the source. They are the
    # source's own policies, or a policy that looks up the row in the source, with the rights and policies of the
    # current role. The lookup doesn't use EXISTS, for which the server may read the whole source first, however few
    # rows are needed. No policies if the source has no row-level security.
    """
    CREATE FUNCTION semantic.policies_v1(relation regclass, origin text, own text)
    RETURNS TABLE (name text, kind text, roles oid[], condition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH copy AS MATERIALIZED (
            SELECT semantic_index.source, spec, semantic.carried_policies_v1(semantic_index.source, spec) AS carried
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            JOIN pg_class AS source ON source.oid = semantic_index.source AND source.relrowsecurity
            WHERE relation IN (generation.chunks, generation.receipts)
        )
        SELECT CAST(polname AS text), CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, polroles,
               pg_get_expr(polqual, polrelid)
        FROM copy
        JOIN pg_policy ON pg_policy.oid = ANY (carried)
        UNION ALL
        SELECT 'as_source', 'PERMISSIVE', CAST('{0}' AS oid[]), format(
            '(SELECT true FROM %s AS _source WHERE %s LIMIT 1)', origin,
            string_agg(
                format('_source.%1$I OPERATOR(%2$I.=) %3$s.%1$I', attname, nspname, own), ' AND ' ORDER BY part.number
            )
        )
        FROM copy
        CROSS JOIN LATERAL jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
        JOIN pg_attribute ON attrelid = copy.source AND attname = part.value ->> 'name'
        JOIN pg_index ON indrelid = copy.source AND indisprimary
        JOIN pg_opclass ON pg_opclass.oid = indclass[array_position(CAST(indkey AS smallint[]), attnum)]
        JOIN pg_amop ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
            AND amopstrategy = 3  -- equality, in a B-tree
        JOIN pg_operator ON pg_operator.oid = amopopr
        JOIN pg_namespace ON pg_namespace.oid = oprnamespace
        WHERE carried IS NULL
        GROUP BY copy.source
    $body$
    """,
    # Fills the carried column, which a copy has for policies to use, in addition to the key. A foreign key on both
    # keeps it equal to the source, in the same statement that changes it there.
    """
    CREATE FUNCTION semantic.carry_v1() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        statement text := (
            SELECT format(
                'SELECT jsonb_build_object(%1$L, to_jsonb(_source.%1$I)) FROM %2$s AS _source WHERE %3$s',
                spec ->> 'rights_by', source, semantic.equal_v1(source, spec, '_source.', '($1).')
            )
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            WHERE TG_RELID IN (generation.chunks, generation.receipts)
        );
        carried jsonb;
    BEGIN
        EXECUTE statement INTO carried USING NEW;
        NEW := jsonb_populate_record(NEW, carried);
        RETURN NEW;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.carry_rights_v1(generation_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        wanted record;
        relation regclass;
    BEGIN
        SELECT generation.chunks, generation.receipts, source, spec ->> 'rights_by' AS name, attnum, attnotnull,
               concat_ws(
                   ' COLLATE ', format_type(atttypid, atttypmod),
                   CAST(CAST(nullif(attcollation, 0) AS regcollation) AS text)
               ) AS type,
               key.columns, key.columns || ', ' || quote_ident(attname) AS all_columns, key.numbers
        INTO wanted
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        CROSS JOIN LATERAL (
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY part.number) AS columns, array_agg(attnum) AS numbers,
                   array_agg(CAST(attname AS text)) AS names
            FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
            JOIN pg_attribute ON attrelid = source AND attname = part.value ->> 'name'
        ) AS key
        LEFT JOIN pg_attribute
            ON attrelid = source AND attname = spec ->> 'rights_by' AND attnum > 0 AND NOT attisdropped
        WHERE generation.id = carry_rights_v1.generation_id AND spec ->> 'rights_by' IS NOT NULL
          AND spec ->> 'rights_by' <> ALL (key.names);
        IF NOT FOUND OR EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = wanted.receipts AND attname = wanted.name AND attnum > 0 AND NOT attisdropped
        ) THEN
            RETURN;  -- a refresh exposes the tables again
        ELSIF wanted.attnum IS NULL THEN
            RAISE EXCEPTION 'table % has no column %, which rights_by names', wanted.source, wanted.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name the column that its policies compare.';
        ELSIF NOT wanted.attnotnull OR NOT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = wanted.source AND indisunique AND indimmediate AND indisvalid AND indpred IS NULL
              AND indexprs IS NULL AND indnkeyatts = cardinality(wanted.numbers) + 1
              AND wanted.numbers || wanted.attnum <@ (CAST(indkey AS smallint[]))
              AND (CAST(indkey AS smallint[]))[0:indnkeyatts - 1] <@ (wanted.numbers || wanted.attnum)
        ) THEN
            RAISE EXCEPTION 'column %, which rights_by names, must be NOT NULL and unique together with the key of %',
                quote_ident(wanted.name), wanted.source
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format(
                'Run: ALTER TABLE %s ALTER COLUMN %I SET NOT NULL, ADD UNIQUE (%s).', wanted.source, wanted.name,
                wanted.all_columns
            );
        END IF;
        FOREACH relation IN ARRAY ARRAY[wanted.chunks, wanted.receipts] LOOP
            EXECUTE (
                SELECT coalesce(
                    string_agg(format('ALTER TABLE %s DROP CONSTRAINT %I', relation, conname), '; '), 'SELECT'
                )
                FROM pg_constraint
                WHERE conrelid = relation AND confrelid = wanted.source AND contype = 'f'
            );
            EXECUTE format(
                'ALTER TABLE %1$s ADD COLUMN %2$I %3$s NOT NULL, '
                'ADD FOREIGN KEY (%4$s) REFERENCES %5$s (%4$s) ON UPDATE CASCADE ON DELETE CASCADE',
                relation, wanted.name, wanted.type, wanted.all_columns, wanted.source
            );
            EXECUTE format('CREATE INDEX ON %s (%I)', relation, wanted.name);
            EXECUTE format(
                'CREATE TRIGGER carry BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION semantic.carry_v1()', relation
            );
        END LOOP;
    END
    $body$
    """,
    # The comment that marks a policy as ours: a hash of what was declared and of the policy as it is now, so it stays
    # the same until someone alters the policy. The hash covers neither names nor oids of tables and roles, so it
    # survives a rename and a restore.
    """
    CREATE FUNCTION semantic.policy_mark_v1(relation regclass, policy name, kind text, condition text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT 'Made and followed by pg_semantic: ' || md5(concat_ws(
            '|', kind, condition, polpermissive, polcmd,
            replace(
                replace(pg_get_expr(polqual, polrelid), quote_ident(relname) || '.', 'own.'),
                format('FROM %s _source', source), 'FROM source _source'
            )
        ))
        FROM pg_policy
        JOIN pg_class ON pg_class.oid = polrelid
        JOIN semantic.generation ON polrelid IN (generation.chunks, generation.receipts)
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE polrelid = relation AND polname = policy
    $body$
    """,
    # Whether a table of a copy hides the rows that its source hides: it has the source's row-level security, each
    # policy that is needed, and no other that could show rows.
    """
    CREATE FUNCTION semantic.is_secured_v1(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT coalesce(bool_and(
            (own.relrowsecurity, own.relforcerowsecurity) = (source.relrowsecurity, source.relforcerowsecurity)
            AND NOT EXISTS (
                SELECT
                FROM (
                    SELECT polname, polroles, oid FROM pg_policy
                    WHERE polrelid = own.oid AND (
                        polpermissive
                        OR starts_with(obj_description(oid, 'pg_policy'), 'Made and followed by pg_semantic')
                    )
                ) AS policy
                FULL JOIN semantic.policies_v1(relation, 'source', 'own') AS wanted ON wanted.name = policy.polname
                WHERE obj_description(policy.oid, 'pg_policy') IS DISTINCT FROM semantic.policy_mark_v1(
                        relation, CAST(wanted.name AS name), wanted.kind, wanted.condition
                    )
                    OR NOT (policy.polroles @> wanted.roles AND policy.polroles <@ wanted.roles)
                    OR wanted.name IS NULL OR policy.oid IS NULL
            )
        ), true)
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_class AS own ON own.oid = relation
        WHERE relation IN (generation.chunks, generation.receipts)
    $body$
    """,
    # Gives a table this row-level security and these policies.
    """
    CREATE FUNCTION semantic.secure_v1(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        wanted record;
        shown record;
    BEGIN
        SELECT source.relrowsecurity, source.relforcerowsecurity, CAST(semantic_index.source AS text) AS origin,
               quote_ident(own.relname) AS own
        INTO wanted
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_class AS own ON own.oid = relation
        WHERE relation IN (generation.chunks, generation.receipts);
        EXECUTE format(
            'ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', relation,
            CASE WHEN wanted.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
            CASE WHEN wanted.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END
        );
        FOR shown IN
            SELECT polname FROM pg_policy
            WHERE polrelid = relation
              AND (
                  polpermissive OR starts_with(obj_description(oid, 'pg_policy'), 'Made and followed by pg_semantic')
                  OR polname IN (SELECT name FROM semantic.policies_v1(relation, 'source', 'own'))
              )
        LOOP
            EXECUTE format('DROP POLICY %I ON %s', shown.polname, relation);
        END LOOP;
        FOR shown IN
            SELECT made.name, made.kind, made.condition, plain.condition AS marked, (
                SELECT string_agg(
                    CASE role WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(role AS regrole) AS text) END, ', ' ORDER BY role
                )
                FROM unnest(made.roles) AS role
            ) AS roles
            FROM semantic.policies_v1(relation, wanted.origin, wanted.own) AS made
            JOIN semantic.policies_v1(relation, 'source', 'own') AS plain USING (name)
        LOOP
            EXECUTE format(
                'CREATE POLICY %I ON %s AS %s FOR SELECT TO %s USING (%s)',
                shown.name, relation, shown.kind, shown.roles, shown.condition
            );
            EXECUTE format(
                'COMMENT ON POLICY %I ON %s IS %L', shown.name, relation,
                semantic.policy_mark_v1(relation, CAST(shown.name AS name), shown.kind, shown.marked)
            );
        END LOOP;
    END
    $body$
    """,
    # The statements that let the roles that can use the source, and no others, use the objects of an index: first those
    # that close, then policies, then those that open. No row if nothing needs to change. The objects belong to the
    # owner of the source, except the functions that triggers call, which need the right to append marks. They stay with
    # the role that created them if that role, or the current one, may not give them to the owner.
    """
    CREATE FUNCTION semantic.due_rights_v1(known_index integer) RETURNS TABLE (step text, object text, statement text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH source AS MATERIALIZED (
            SELECT relowner FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source
            WHERE semantic_index.id = known_index
        ),
        part AS MATERIALIZED (
            SELECT parts.*, kind = 'TABLE' AND NOT semantic.is_secured_v1(parts.part) AS bare,
                   CASE kind WHEN 'VIEW' THEN 'TABLE' ELSE kind END || ' ' || name AS target
            FROM semantic.parts_v1(known_index) AS parts
        ),
        reader AS MATERIALIZED (
            SELECT id AS generation_id, found.reader AS role
            FROM semantic.generation CROSS JOIN LATERAL semantic.readers_v1(id) AS found (reader)
            WHERE index_id = known_index
        ),
        wanted AS MATERIALIZED (
            SELECT part, target, role, privilege FROM part JOIN reader USING (generation_id)
            WHERE privilege IS NOT NULL AND role <> owner
            UNION
            SELECT part, target, relowner, unnest(
                CASE kind WHEN 'FUNCTION' THEN ARRAY['EXECUTE'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END
            )
            FROM part CROSS JOIN source
            WHERE owner <> relowner
        ),
        present AS MATERIALIZED (
            SELECT part, target, name, grantee AS role, privilege_type AS privilege, is_grantable AS too_much, bare
            FROM part CROSS JOIN LATERAL aclexplode(acl)
            WHERE grantee <> owner
            UNION
            SELECT part, target, name, grantee, privilege_type, true, bare
            FROM part
            JOIN pg_attribute ON attrelid = part AND kind <> 'FUNCTION' AND NOT attisdropped
            CROSS JOIN LATERAL aclexplode(attacl)
            WHERE grantee <> owner
        ),
        closed AS MATERIALIZED (
            SELECT part, target, name, role
            FROM present LEFT JOIN wanted USING (part, target, role, privilege)
            GROUP BY part, target, name, role
            HAVING bool_or(too_much OR bare OR wanted.part IS NULL)
        ),
        due (number, step, object, statement) AS (
            SELECT 1, 'own', name, format('ALTER %s OWNER TO %s', target, CAST(relowner AS regrole))
            FROM part CROSS JOIN source
            WHERE owner <> relowner AND privilege IS NOT NULL AND (
                has_schema_privilege(relowner, place, 'CREATE')
                OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            ) AND pg_has_role(current_user, owner, 'USAGE') AND pg_has_role(
                current_user, relowner,
                CASE WHEN CAST(current_setting('server_version_num') AS integer) < 160000 THEN 'MEMBER' ELSE 'SET' END
            )
            UNION ALL
            SELECT 2, 'close', name, format(
                'REVOKE ALL ON %s FROM %s CASCADE', target,
                CASE role WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(role AS regrole) AS text) END
            )
            FROM closed
            UNION ALL
            SELECT 3, 'secure', name, format('SELECT semantic.secure_v1(%L)', name) FROM part WHERE bare
            UNION ALL
            SELECT 4, 'open', named.name, format(
                'GRANT %s ON %s TO %s', string_agg(wanted.privilege, ', '), wanted.target,
                CASE wanted.role WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(wanted.role AS regrole) AS text) END
            )
            FROM wanted
            JOIN (SELECT part, name FROM part) AS named USING (part)
            LEFT JOIN present USING (part, role, privilege)
            LEFT JOIN closed USING (part, role)
            WHERE present.part IS NULL OR closed.part IS NOT NULL
            GROUP BY named.name, wanted.target, wanted.role
        )
        SELECT due.step, due.object, due.statement FROM due ORDER BY due.number, due.object, due.statement
    $body$
    """,
    # Runs the statements that are due, for all or some objects, or only those that close, and says who can read the
    # index now. A step that created objects updates only these and leaves the others to a worker, so that it waits for
    # no search while the source is locked.
    """
    CREATE FUNCTION semantic.follow_rights_v1(
        known_index integer, only_close boolean DEFAULT false, only_objects text[] DEFAULT NULL
    ) RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        due record;
        said boolean := false;
    BEGIN
        PERFORM pg_advisory_xact_lock(723628196, known_index);  -- the first number is our own
        FOR due IN
            SELECT * FROM semantic.due_rights_v1(known_index) AS every
            WHERE (every.step = 'close' OR NOT only_close)
              AND (every.object = ANY (only_objects) OR only_objects IS NULL)
        LOOP
            EXECUTE due.statement;
            said := said OR due.step IN ('secure', 'open') OR due.object NOT LIKE '%(%';
            RETURN NEXT due.statement;
        END LOOP;
        IF said THEN
            RAISE NOTICE '%', semantic.rights_said_v1(known_index);
        END IF;
    END
    $body$
    """,
    # How a copy hides rows: not at all, by asking its source, or by a column of its own.
    """
    CREATE FUNCTION semantic.rights_kind_v1(generation_id integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT CASE WHEN NOT relrowsecurity THEN 'open'
            WHEN EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'as_source') THEN 'source'
            ELSE 'local' END
        FROM semantic.generation JOIN pg_class ON pg_class.oid = generation.receipts
        WHERE generation.id = rights_kind_v1.generation_id
    $body$
    """,
    # A sentence that describes the rights to an index.
    """
    CREATE FUNCTION semantic.rights_said_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT format(
            'Semantic index %s can be read by %s, as %s can; %s. Only the owner can write to it.', semantic_index.name,
            coalesce(
                (
                    SELECT string_agg(
                        CASE role WHEN 0 THEN 'every role' ELSE CAST(CAST(role AS regrole) AS text) END, ', '
                        ORDER BY role
                    )
                    FROM semantic.readers_v1(live.id) AS role
                ),
                'no role but its owner'
            ),
            semantic_index.source,
            CASE semantic.rights_kind_v1(live.id)
                WHEN 'open' THEN 'no row is hidden'
                WHEN 'source' THEN 'its policies ask the table which rows a role can see'
                ELSE 'the policies of the table apply to it, by a column of its own'
            END
        )
        FROM semantic.semantic_index
        JOIN semantic.generation AS live ON live.index_id = semantic_index.id AND live.role = 'live'
        WHERE semantic_index.id = known_index
    $body$
    """,
    # Creates the views of a copy and sets the rights to it. A view runs with the rights of its caller; the rights to
    # the source decide who can use it.
    """
    CREATE FUNCTION semantic.expose_v1(generation_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        shown record;
    BEGIN
        PERFORM semantic.carry_rights_v1(generation_id);
        FOR shown IN
            SELECT 'chunks_' || id AS name, chunks AS relation FROM semantic.generation WHERE id = generation_id
            UNION ALL
            SELECT 'receipts_' || id, receipts FROM semantic.generation WHERE id = generation_id
        LOOP
            EXECUTE format(
                'CREATE VIEW semantic.%I WITH (security_invoker) AS SELECT * FROM %s', shown.name, shown.relation
            );
        END LOOP;
        PERFORM semantic.follow_rights_v1(index_id, false, ARRAY(
            SELECT part.name FROM semantic.parts_v1(index_id) AS part WHERE part.generation_id = generation.id
        ))
        FROM semantic.generation
        WHERE id = expose_v1.generation_id;
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
        PERFORM semantic.unregister_index_v2(generation.chunks)  -- whose tables were dropped by hand
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
          AND (generation.chunks = index_chunks OR NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.chunks));
        made := semantic.register_index_v1(
            index_name, index_source, index_chunks, index_receipts, index_encoder_id, index_spec
        );
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # How many seconds our own DDL waits for tables that others use: SET semantic.lock_seconds = 120. The wait ends well
    # before a statement_timeout would.
    """
    CREATE FUNCTION semantic.lock_seconds_v1() RETURNS double precision
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN least(
        CAST(coalesce(nullif(current_setting('semantic.lock_seconds', true), ''), '30') AS double precision),
        0.8 * CAST(nullif(
            extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)), 0
        ) AS double precision)
    )
    """,
    # Locks tables and their partitions, in this order, within a fifth of a second in total; skips those that are gone.
    # If the role may set deadlock_timeout, the server cancels an autovacuum that is in the way.
    """
    CREATE FUNCTION semantic.lock_once_v1(mode text, relations regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
    AS $body$
    DECLARE
        deadline timestamptz := clock_timestamp() + interval '200 ms';
        usual text := current_setting('deadlock_timeout');
        can_hurry boolean := has_parameter_privilege('deadlock_timeout', 'SET');
        part record;
    BEGIN
        PERFORM set_config('deadlock_timeout', '50ms', true) WHERE can_hurry;
        FOR part IN
            SELECT CAST(CAST(tree.relid AS regclass) AS text) AS name
            FROM unnest(relations) WITH ORDINALITY AS wanted (relation, number)
            CROSS JOIN LATERAL (
                SELECT relation AS relid, 0 AS level
                UNION ALL
                SELECT relid, level FROM pg_partition_tree(relation) WHERE level > 0
            ) AS tree
            JOIN pg_class ON pg_class.oid = tree.relid
            ORDER BY wanted.number, tree.level, tree.relid
        LOOP
            PERFORM set_config('lock_timeout', CAST(CAST(
                greatest(1, 1000 * extract(epoch FROM deadline - clock_timestamp())) AS integer
            ) AS text), true);
            EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', part.name, mode);
        END LOOP;
        PERFORM set_config('deadlock_timeout', usual, true) WHERE can_hurry;
    END
    $body$
    """,
    # The processes whose locks on tables or their partitions conflict with this mode.
    """
    CREATE FUNCTION semantic.lock_holders_v1(mode text, relations regclass[]) RETURNS text[]
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    RETURN ARRAY(
        SELECT DISTINCT coalesce(CAST(held.pid AS text), 'a prepared transaction')
        FROM pg_locks AS held
        WHERE held.granted AND held.locktype = 'relation' AND held.pid IS DISTINCT FROM pg_backend_pid()
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND held.relation = ANY (
              CAST(relations AS oid[])
              || ARRAY(SELECT relid FROM unnest(relations) AS wanted, pg_partition_tree(wanted))
          )
          AND (lock_holders_v1.mode = 'ACCESS EXCLUSIVE' OR held.mode NOT IN ('AccessShareLock', 'RowShareLock'))
        ORDER BY 1
    )
    """,
    # Whether another connection is building an index of a table. Its locks show this, which every role can see.
    """
    CREATE FUNCTION semantic.is_building_v1(relation oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN EXISTS (
        SELECT FROM pg_locks AS held
        WHERE held.granted AND held.pid <> pg_backend_pid()
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (
              held.relation = is_building_v1.relation
              AND held.mode IN ('ShareUpdateExclusiveLock', 'ShareLock')
              AND held.pid IN (SELECT pid FROM pg_stat_progress_create_index)
              -- or the lock that a worker takes before it drops an index whose build was interrupted
              OR held.locktype = 'advisory' AND held.classid = 723628198 AND held.objid = is_building_v1.relation
          )
    )
    """,
    # The lock that all our DDL on a user's table begins with. A session that waits for a lock makes others wait behind
    # it. So this waits for a fifth of a second, releases what it has locked, and tries again after a pause, for as long
    # as lock_seconds_v1 says. A transaction that has locked a table that others write to doesn't try again, because
    # they would wait in the meantime. Cancels builds of late indexes, whose locks last for minutes; a worker starts
    # them again.
    """
    CREATE FUNCTION semantic.lock_v1(mode text, VARIADIC relations regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        deadline timestamptz := clock_timestamp() + make_interval(secs => semantic.lock_seconds_v1());
        longest_pause double precision := 0.05;
        pause double precision;
        is_last boolean := EXISTS (
            SELECT FROM pg_locks
            WHERE pid = pg_backend_pid() AND granted AND locktype = 'relation'
              AND pg_locks.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
              AND (relation = ANY (relations) OR relation IN (SELECT source FROM semantic.semantic_index))
        );
        first_holders text[];
        holders text[];
    BEGIN
        IF mode NOT IN ('SHARE ROW EXCLUSIVE', 'ACCESS EXCLUSIVE') THEN
            RAISE EXCEPTION 'lock mode % is unknown', quote_literal(mode) USING ERRCODE = 'invalid_parameter_value';
        END IF;
        LOOP
            PERFORM pg_cancel_backend(build.pid)
            FROM pg_stat_progress_create_index AS build
            JOIN pg_stat_activity AS builder ON builder.pid = build.pid
            WHERE mode = 'ACCESS EXCLUSIVE' AND build.relid = ANY (relations) AND build.datname = current_database()
              AND build.relid IN (SELECT unnest(ARRAY[chunks, receipts]) FROM semantic.generation)
              AND pg_has_role(builder.usesysid, 'USAGE');
            BEGIN
                PERFORM semantic.lock_once_v1(mode, relations);
                RETURN;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                holders := semantic.lock_holders_v1(mode, relations);
                first_holders := coalesce(first_holders, holders);
                pause := random() * longest_pause;
                IF is_last OR clock_timestamp() + make_interval(secs => pause + 0.2) > deadline THEN
                    RAISE EXCEPTION 'tables (%) are in use by other transactions (pid: %)',
                        (SELECT string_agg(DISTINCT CAST(locked AS text), ', ') FROM unnest(relations) AS locked),
                        coalesce(
                            (SELECT string_agg(pid, ', ') FROM unnest(holders) AS pid WHERE pid = ANY (first_holders)),
                            nullif(array_to_string(holders, ', '), ''),
                            'already ended'
                        )
                    USING ERRCODE = 'lock_not_available',
                        HINT = CASE WHEN is_last
                            THEN 'This transaction has locked other tables, so it cannot wait for these: do this in '
                                'a separate transaction. '
                            ELSE '' END
                            || 'Try again when the other transactions have ended, or end one with '
                                'SELECT pg_terminate_backend(pid).';
                END IF;
            END;
            PERFORM pg_sleep(pause);
            longest_pause := least(1, longest_pause * 2);
        END LOOP;
    END
    $body$
    """,
    # The source of an index, and the views and tables of one of its copies or of all, in the order in which they are
    # locked. Writers lock the source first, and a DELETE continues to receipts and chunks in the order of their foreign
    # keys, the oldest copy first. Searches and workers lock views before tables.
    """
    CREATE FUNCTION semantic.relations_v1(known_index integer, only_generation integer) RETURNS regclass[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN ARRAY(
        SELECT part.relation
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN LATERAL (
            VALUES (1, 0, source), (2, generation.id, to_regclass('semantic.receipts_' || generation.id)),
                   (3, generation.id, receipts), (4, generation.id, to_regclass('semantic.chunks_' || generation.id)),
                   (5, generation.id, chunks)
        ) AS part (place, of_generation, relation)
        JOIN pg_class ON pg_class.oid = part.relation
        WHERE semantic_index.id = known_index AND generation.id = coalesce(only_generation, generation.id)
        GROUP BY part.place, part.of_generation, part.relation
        ORDER BY part.of_generation, part.place
    )
    """,
    # Deletes up to `most` marks, and as many jobs, of copies that were dropped; returns how many it deleted. It looks
    # for them in the indexes, generation by generation, which costs next to nothing.
    """
    CREATE FUNCTION semantic.sweep_v1(most integer) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH RECURSIVE marked (id) AS (
            SELECT min(generation_id) FROM semantic.mark
            UNION ALL
            SELECT (SELECT min(generation_id) FROM semantic.mark WHERE generation_id > marked.id)
            FROM marked WHERE marked.id IS NOT NULL
        ), queued (id) AS (
            SELECT min(generation_id) FROM semantic.job
            UNION ALL
            SELECT (SELECT min(generation_id) FROM semantic.job WHERE generation_id > queued.id)
            FROM queued WHERE queued.id IS NOT NULL
        ), marks AS (
            DELETE FROM semantic.mark WHERE ctid = ANY (ARRAY(
                SELECT mark.ctid FROM semantic.mark
                WHERE generation_id = ANY (ARRAY(SELECT id FROM marked EXCEPT SELECT id FROM semantic.generation))
                LIMIT most
            ))
            RETURNING 1
        ), jobs AS (
            DELETE FROM semantic.job WHERE ctid = ANY (ARRAY(
                SELECT job.ctid FROM semantic.job
                WHERE generation_id = ANY (ARRAY(SELECT id FROM queued EXCEPT SELECT id FROM semantic.generation))
                LIMIT most
            ))
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM marks) + (SELECT count(*) FROM jobs)
    $body$
    """,
    # Drops the tables of a copy and its views, and deletes it from the registry. The caller drops the tables of the
    # live copy. Marks are deleted before jobs: this waits for a worker that is folding marks, and then finds its jobs.
    # Beyond ten thousand, both are left to sweep_v1, because the source is locked in the meantime.
    """
    CREATE FUNCTION semantic.forget_generation_v1(generation_id integer, and_tables boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone semantic.generation;
        doomed record;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(index_id, id))
        FROM semantic.generation
        WHERE id = generation_id;
        SELECT * INTO gone FROM semantic.generation WHERE id = generation_id FOR UPDATE;
        FOR doomed IN
            SELECT 'VIEW' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name
            FROM (VALUES ('semantic.chunks_' || gone.id), ('semantic.receipts_' || gone.id)) AS view (name)
            JOIN pg_class ON pg_class.oid = to_regclass(view.name)
            UNION ALL
            SELECT 'TABLE', CAST(CAST(oid AS regclass) AS text)
            FROM pg_class
            WHERE and_tables AND oid IN (gone.chunks, gone.receipts)
            ORDER BY kind DESC, name
        LOOP
            EXECUTE format('DROP %s %s', doomed.kind, doomed.name);
        END LOOP;
        DELETE FROM semantic.mark WHERE ctid = ANY (
            ARRAY(SELECT mark.ctid FROM semantic.mark WHERE mark.generation_id = gone.id LIMIT 10000)
        );
        DELETE FROM semantic.job WHERE ctid = ANY (
            ARRAY(SELECT job.ctid FROM semantic.job WHERE job.generation_id = gone.id LIMIT 10000)
        );
        DELETE FROM semantic.generation WHERE id = gone.id;
        DELETE FROM semantic.encoder
        WHERE id = gone.encoder_id
          AND NOT EXISTS (SELECT FROM semantic.generation WHERE generation.encoder_id = encoder.id);
    END
    $body$
    """,
    # Deletes copies whose chunk table was dropped by hand, and the marks and jobs of copies that don't exist. Returns
    # the roles that are free now.
    """
    CREATE FUNCTION semantic.forget_ghosts_v1(known_index integer) RETURNS text[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        ghosts integer[];
        roles text[];
    BEGIN
        SELECT array_agg(id), array_agg(role) INTO ghosts, roles
        FROM semantic.generation
        WHERE index_id = known_index AND role <> 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = chunks);
        PERFORM semantic.sweep_v1(10000);  -- before anything is locked
        PERFORM semantic.forget_generation_v1(id, true) FROM unnest(ghosts) AS id;
        RETURN coalesce(roles, '{}');
    END
    $body$
    """,
    # Drops a copy that has had this role for at least this many seconds: searches may still use a copy that was live
    # before.
    """
    CREATE FUNCTION semantic.drop_generation_v1(generation_id integer, expected text, seconds double precision)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known semantic.generation;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(index_id, id))
        FROM semantic.generation
        WHERE id = generation_id AND role = expected AND role <> 'live';
        SELECT * INTO known FROM semantic.generation WHERE id = generation_id FOR UPDATE;
        IF known.role IS DISTINCT FROM expected OR known.role = 'live'
            OR known.role_since > clock_timestamp() - make_interval(secs => seconds) THEN
            RAISE EXCEPTION 'generation % is no longer %, or became so only a moment ago', generation_id, expected
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Check pg-semantic status, then try again.';
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
    # The parts of a spec that make two copies different. A spec from before BM25 doesn't mention it.
    """
    CREATE FUNCTION semantic.recipe_v1(spec jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN jsonb_build_object('lexical', NULL, 'rights_by', NULL) || (spec - '{name,table,schema,key}'::text[])
    """,
    # The text of a column's value, of any type. Each element of an array is on a line of its own. The planner inlines
    # this.
    """
    CREATE FUNCTION semantic.text_v1(value anynonarray) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $body$ SELECT CAST($1 AS pg_catalog.text) $body$
    """,
    """
    CREATE FUNCTION semantic.text_v1(value anyarray) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $body$ SELECT pg_catalog.array_to_string($1, E'\\n') $body$
    """,
    # Whether columns of a type can be text columns: strings, enums, domains over these, and arrays of them.
    """
    CREATE FUNCTION semantic.is_text_v1(type oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH RECURSIVE base AS (
            SELECT oid, typbasetype, typcategory, typelem FROM pg_type WHERE oid = type
            UNION ALL
            SELECT pg_type.oid, pg_type.typbasetype, pg_type.typcategory, pg_type.typelem
            FROM base JOIN pg_type ON pg_type.oid = base.typbasetype
        )
        SELECT base.typcategory IN ('S', 'E') OR base.oid = 18  -- "char"
            OR base.typcategory = 'A' AND semantic.is_text_v1(base.typelem)
        FROM base
        WHERE base.typbasetype = 0
    $body$
    """,
    # A spec with the current key types of the chunk table, under their current names.
    """
    CREATE FUNCTION semantic.spec_v1(spec jsonb, chunks regclass) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN spec || jsonb_build_object('key', (
        SELECT jsonb_agg(
            part.value || jsonb_build_object('type', coalesce(format_type(atttypid, atttypmod) || CASE
                WHEN attcollation <> typcollation THEN format(' COLLATE %I.%I', nspname, collname) ELSE ''
            END, part.value ->> 'type'))
            ORDER BY part.number
        )
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
        LEFT JOIN pg_attribute ON attrelid = chunks AND attname = part.value ->> 'name' AND NOT attisdropped
        LEFT JOIN pg_type ON pg_type.oid = atttypid
        LEFT JOIN pg_collation ON pg_collation.oid = attcollation
        LEFT JOIN pg_namespace ON pg_namespace.oid = collnamespace
    ))
    """,
    # The statements that move the objects of an index to the schema that its source was moved to; NULL if they are
    # there.
    """
    CREATE FUNCTION semantic.apart_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT string_agg(
            format('ALTER %s %s SET SCHEMA %I', part.kind, part.name, nspname), '; ' ORDER BY part.kind DESC, part.name
        ) || CASE WHEN bool_or(part.kind = 'FUNCTION') AND to_regproc('semantic.make_search_v1') IS NOT NULL
            THEN format('; SELECT semantic.make_search_v1(%s)', known_index) ELSE ''
        END
        FROM semantic.semantic_index
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_namespace ON pg_namespace.oid = source.relnamespace
        CROSS JOIN LATERAL (
            SELECT 'TABLE' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name, relnamespace AS place
            FROM semantic.generation
            JOIN pg_class ON pg_class.oid IN (generation.chunks, generation.receipts)
            WHERE generation.index_id = semantic_index.id
            UNION
            SELECT 'FUNCTION', CAST(CAST(pg_proc.oid AS regprocedure) AS text), pg_proc.pronamespace
            FROM pg_trigger
            JOIN pg_proc AS capture ON capture.oid = tgfoid
            JOIN pg_proc ON pg_proc.oid = tgfoid
                OR pg_proc.pronamespace = capture.pronamespace AND pg_proc.proname = semantic_index.name || '_search'
                    AND position('semantic.search_v1(asked' IN pg_proc.prosrc) > 0
            WHERE tgrelid = source.oid
              AND capture.proname IN (semantic_index.name || '_capture', semantic_index.name || '_capture_replica')
        ) AS part (kind, name, place)
        WHERE semantic_index.id = known_index AND part.place <> source.relnamespace
    $body$
    """,
    # Rejects columns that cannot be text columns: those that don't exist and, if a copy is about to begin, those that
    # aren't text.
    """
    CREATE FUNCTION semantic.require_columns_v1(index_source regclass, spec jsonb, to_begin boolean) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        wanting record;
    BEGIN
        SELECT named.value AS name, format_type(atttypid, atttypmod) AS type INTO wanting
        FROM jsonb_array_elements_text(spec -> 'columns') WITH ORDINALITY AS named (value, number)
        LEFT JOIN pg_attribute
            ON attrelid = index_source AND attname = named.value AND attnum > 0 AND NOT attisdropped
        WHERE atttypid IS NULL OR to_begin AND NOT semantic.is_text_v1(atttypid)
        ORDER BY named.number
        LIMIT 1;
        IF FOUND AND wanting.type IS NULL THEN
            RAISE EXCEPTION 'table % has no column %, and a copy with columns % reads it',
                index_source, quote_ident(wanting.name), spec -> 'columns'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = CASE WHEN to_begin THEN 'Name existing text columns.'
                    ELSE 'A copy that reads a missing column can only be dropped: pg-semantic generation drop.' END;
        ELSIF FOUND THEN
            RAISE EXCEPTION 'column % of table % is not text but %',
                quote_ident(wanting.name), index_source, wanting.type
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name text columns, or add a generated column '
                'with the text (GENERATED ALWAYS AS (...) STORED) and name that.';
        END IF;
    END
    $body$
    """,
    # The type of a column with its collation, as ALTER TABLE takes it; for a domain, the type that it is based on.
    """
    CREATE FUNCTION semantic.column_type_v1(relation oid, part name) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT concat(format_type(coalesce(under.base, atttypid), coalesce(under.modifier, atttypmod)), place.name)
        FROM pg_attribute
        JOIN pg_type ON pg_type.oid = atttypid
        LEFT JOIN LATERAL semantic.base_type_v1(atttypid) AS under ON typtype = 'd'
        LEFT JOIN LATERAL (
            SELECT format(' COLLATE %I.%I', nspname, collname)
            FROM pg_collation JOIN pg_namespace ON pg_namespace.oid = collnamespace
            WHERE pg_collation.oid = attcollation
        ) AS place (name) ON true
        WHERE attrelid = relation AND attname = part
    $body$
    """,
    # Key columns whose type or collation differs between the source and the tables of a copy, as after ALTER TABLE.
    # Here, a domain counts as its base type. `quick` means that the copy can be altered without a rewrite, and
    # `castable` that the server can cast the old key to the new one: an integer to a bigint, but not to a uuid. An
    # array can be cast if its elements can.
    """
    CREATE FUNCTION semantic.altered_key_v1(known_index integer)
    RETURNS TABLE (
        generation_id integer, relation regclass, part name, has text, wanted text, quick boolean, castable boolean
    )
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT generation.id, own.attrelid, own.attname, own_type.name, source_type.name,
               old.oid = new.oid
                   OR old.oid IN ('text'::regtype, 'varchar'::regtype)
                   AND new.oid IN ('text'::regtype, 'varchar'::regtype),
               old_part.oid = new_part.oid OR 'S' IN (old_part.typcategory, new_part.typcategory)
                   OR EXISTS (SELECT FROM pg_cast WHERE (castsource, casttarget) = (old_part.oid, new_part.oid))
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN LATERAL jsonb_array_elements(generation.spec -> 'key') AS key (value)
        JOIN pg_attribute AS own
            ON own.attrelid IN (generation.chunks, generation.receipts) AND own.attname = key.value ->> 'name'
        JOIN pg_attribute AS source
            ON source.attrelid = semantic_index.source AND source.attname = own.attname AND NOT source.attisdropped
        CROSS JOIN LATERAL semantic.column_type_v1(own.attrelid, own.attname) AS own_type (name)
        CROSS JOIN LATERAL semantic.column_type_v1(source.attrelid, source.attname) AS source_type (name)
        CROSS JOIN LATERAL semantic.base_type_v1(own.atttypid) AS own_base
        CROSS JOIN LATERAL semantic.base_type_v1(source.atttypid) AS source_base
        JOIN pg_type AS old ON old.oid = own_base.base
        JOIN pg_type AS new ON new.oid = source_base.base
        LEFT JOIN LATERAL semantic.base_type_v1(old.typelem) AS old_element
            ON old.typcategory = 'A' AND new.typcategory = 'A'
        LEFT JOIN LATERAL semantic.base_type_v1(new.typelem) AS new_element
            ON old.typcategory = 'A' AND new.typcategory = 'A'
        JOIN pg_type AS old_part ON old_part.oid = coalesce(old_element.base, old.oid)
        JOIN pg_type AS new_part ON new_part.oid = coalesce(new_element.base, new.oid)
        WHERE semantic_index.id = known_index AND own_type.name <> source_type.name
    $body$
    """,
    # The columns that any copy of an index reads, whether they exist, and whether the live copy reads them.
    """
    CREATE FUNCTION semantic.columns_v1(known_index integer) RETURNS TABLE (name text, there boolean, by_live boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT named.value, count(attname) > 0, bool_or(generation.role = 'live')
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN jsonb_array_elements_text(generation.spec -> 'columns') AS named (value)
        LEFT JOIN pg_attribute
            ON attrelid = semantic_index.source AND attname = named.value AND attnum > 0 AND NOT attisdropped
        WHERE semantic_index.id = known_index
        GROUP BY named.value
    $body$
    """,
    # The columns that capture compares. A virtual generated column (PostgreSQL 18) is in no transition table, so the
    # columns that it is computed from stand in for it. Each partition may compute it in its own way.
    """
    CREATE FUNCTION semantic.captured_columns_v1(known_index integer, index_source regclass)
    RETURNS TABLE (name text, there boolean, by_live boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH virtual AS (
            SELECT generated.attname AS name, pg_attrdef.oid AS expression, part.relid
            FROM (SELECT index_source AS relid UNION SELECT relid FROM pg_partition_tree(index_source)) AS part
            JOIN pg_attribute AS generated ON generated.attrelid = part.relid AND generated.attgenerated = 'v'
            JOIN pg_attrdef ON adrelid = part.relid AND adnum = generated.attnum
        )
        SELECT name, there, by_live
        FROM semantic.columns_v1(known_index)
        WHERE name NOT IN (SELECT virtual.name FROM virtual)
        UNION
        SELECT base.attname, true, true
        FROM semantic.columns_v1(known_index) AS read
        JOIN virtual ON virtual.name = read.name
        JOIN pg_depend
            ON classid = CAST('pg_attrdef' AS regclass) AND objid = virtual.expression
            AND refclassid = CAST('pg_class' AS regclass) AND refobjid = virtual.relid AND refobjsubid > 0
        JOIN pg_attribute AS base
            ON base.attrelid = virtual.relid AND base.attnum = refobjsubid AND base.attgenerated = ''
    $body$
    """,
    # The condition that an old row and a new one have the same key, with the operators of the index that keeps the key
    # unique, which may be outside pg_catalog. Rejects a key that does not allow a FULL JOIN.
    """
    CREATE FUNCTION semantic.same_key_v1(index_source regclass, key text[]) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        comparison record;
    BEGIN
        SELECT string_agg(
                   format('old_rows.%1$I OPERATOR(%2$I.%3$s) new_rows.%1$I', attname, nspname, coalesce(oprname, '=')),
                   ' AND ' ORDER BY number
               ) AS condition,
               bool_and(coalesce(oprcanmerge, true)) OR bool_and(coalesce(oprcanhash, true)) AS can_join,
               string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY number) AS columns
        INTO comparison
        FROM unnest(key) WITH ORDINALITY AS named (name, number)
        JOIN pg_attribute ON attrelid = index_source AND attname = named.name AND NOT attisdropped
        LEFT JOIN LATERAL (
            SELECT opcfamily, opcintype
            FROM pg_index
            CROSS JOIN unnest(indkey, indclass) AS part (attnum, opclass)
            JOIN pg_opclass ON pg_opclass.oid = part.opclass
            WHERE indrelid = index_source AND indisunique AND indpred IS NULL
              AND part.attnum = pg_attribute.attnum
            ORDER BY indisprimary DESC, indexrelid
            LIMIT 1
        ) AS unique_by ON true
        LEFT JOIN pg_amop
            ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype AND amopstrategy = 3
        LEFT JOIN pg_operator ON pg_operator.oid = amopopr
        JOIN pg_namespace ON pg_namespace.oid = coalesce(oprnamespace, CAST('pg_catalog' AS regnamespace));
        IF NOT comparison.can_join THEN
            RAISE EXCEPTION 'the key of table % (%) cannot be joined on: its equality operator supports neither '
                'merge nor hash joins', index_source, comparison.columns
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Declare the operator with MERGES or HASHES (CREATE OPERATOR), or give the table another key.';
        END IF;
        RETURN comparison.condition;
    END
    $body$
    """,
    # Creates the capture function, which marks a row for all copies when a column that any of them reads changes; only
    # the registry knows these columns. Waits for writers whose changes were not marked for all copies. If a copy that
    # is not live reads a missing column, writes continue as if it didn't; if the column comes back, all rows are
    # checked for that copy.
    """
    CREATE FUNCTION semantic.watch_v1(index_name text, index_source regclass, function_name text, statement text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        place record;
    BEGIN
        IF semantic.apart_v1(known_index) IS NOT NULL THEN
            RAISE EXCEPTION 'table % is in another schema than semantic index %', index_source, index_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format('Move all of it next to the table: %s.', semantic.apart_v1(known_index));
        END IF;
        PERFORM semantic.lock_v1('SHARE ROW EXCLUSIVE', index_source);
        FOR place IN
            SELECT '/*function*/' AS mark, format('%I.%I', nspname, function_name) AS filling
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = index_source
            UNION ALL
            SELECT '/*generations*/', CAST(array_agg(id ORDER BY id) AS text)
            FROM semantic.generation
            WHERE index_id = known_index
            UNION ALL
            SELECT '/*generation_rows*/', string_agg(format('(%s)', id), ', ' ORDER BY id)
            FROM semantic.generation
            WHERE index_id = known_index
            UNION ALL
            SELECT '/*same_key*/', replace(
                semantic.same_key_v1(
                    index_source,
                    ARRAY(SELECT part ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key') AS part)
                ),
                '''', ''''''
            )
            FROM semantic.generation
            WHERE index_id = known_index AND role = 'live'
            UNION ALL
            SELECT rows.mark, replace(
                coalesce(string_agg(
                    format(
                        CASE WHEN read.there OR read.by_live THEN 'CAST(%1$s.%2$I AS TEXT) COLLATE "C"'
                            ELSE 'pg_catalog.to_jsonb(%1$s) ->> %2$L' END,
                        rows.alias, read.name
                    ),
                    ', ' ORDER BY read.name
                ), 'NULL'),
                '''', ''''''
            )
            FROM (VALUES ('/*old_text*/', 'old_rows'), ('/*new_text*/', 'new_rows')) AS rows (mark, alias)
            LEFT JOIN semantic.captured_columns_v1(known_index, index_source) AS read ON true
            GROUP BY rows.mark
        LOOP
            statement := replace(statement, place.mark, place.filling);
        END LOOP;
        EXECUTE statement;
        EXECUTE (
            SELECT format(
                'COMMENT ON FUNCTION %I.%I() IS %L', nspname, function_name, semantic.computed_columns_v1(known_index)
            )
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = index_source
        );
        PERFORM semantic.follow_rights_v1(
            known_index, false,
            ARRAY(SELECT part.name FROM semantic.parts_v1(known_index) AS part WHERE part.kind = 'FUNCTION')
        );
        INSERT INTO semantic.mark (generation_id)
        SELECT DISTINCT generation.id
        FROM semantic.generation
        JOIN semantic.columns_v1(known_index) AS read ON generation.spec -> 'columns' ? read.name
        WHERE generation.index_id = known_index AND generation.role <> 'live' AND NOT read.there;
    END
    $body$
    """,
    # Checks that an index is in the state that a change expects: its live copy, or the copy that is being built, which
    # is then dropped in favor of the new one.
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
        PERFORM semantic.forget_ghosts_v1(known_index);
        SELECT id, role, semantic.recipe_v1(spec) AS recipe INTO newest
        FROM semantic.generation
        WHERE index_id = known_index AND role IN ('live', 'next')
        ORDER BY role DESC
        LIMIT 1;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no semantic index % on table %', index_name, index_source
            USING ERRCODE = 'undefined_object';
        ELSIF newest.recipe <> semantic.recipe_v1(was) THEN
            RAISE EXCEPTION 'semantic index % is not what this change expects: its % copy is %, not %',
                index_name, newest.role, newest.recipe, semantic.recipe_v1(was)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'If a copy is being built, switch to it or drop it first.';
        ELSIF newest.role = 'next' THEN
            PERFORM semantic.forget_generation_v1(newest.id, true);
        ELSE
            PERFORM semantic.lock_v1('SHARE ROW EXCLUSIVE', index_source);
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
        PERFORM semantic.require_columns_v1(index_source, target, true);
        PERFORM CAST(target #>> '{lexical,config}' AS regconfig);
        INSERT INTO semantic.encoder (id, reference, dimensions, query_prompt, document_prompt)
        VALUES (
            next_encoder_id,
            target #>> '{encoder,reference}',
            (target #>> '{encoder,dimensions}')::integer,
            target #>> '{encoder,query_prompt}',
            target #>> '{encoder,document_prompt}'
        )
        ON CONFLICT DO NOTHING;
        INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
        VALUES (known_index, 'next', next_encoder_id, next_chunks, next_receipts, target)
        RETURNING id INTO made;
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # Renames a table and the indexes that are named after it.
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
    # Makes a copy with this role live. The one that was live becomes `previous`, or `next` when a switch is rolled
    # back.
    """
    CREATE FUNCTION semantic.switch_generation_v1(generation_id integer, switched text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        stem text;
        of_source regclass;
        becomes text := CASE switched WHEN 'next' THEN 'previous' ELSE 'next' END;
        live semantic.generation;
        chosen semantic.generation;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC ARRAY(
            SELECT part.relation
            FROM semantic.generation AS one
            CROSS JOIN LATERAL (VALUES (1, one.receipts), (2, one.chunks)) AS part (place, relation)
            WHERE one.index_id = another.index_id AND (one.role = 'live' OR one.id = generation_id)
            ORDER BY one.id, part.place  -- the order of a DELETE
        ))
        FROM semantic.generation AS another  -- before rows of the registry, so that no worker waits for those
        WHERE another.id = generation_id AND another.role = switched AND switched <> 'live';
        SELECT * INTO chosen FROM semantic.generation WHERE id = generation_id AND role = switched FOR UPDATE;
        SELECT * INTO live FROM semantic.generation WHERE index_id = chosen.index_id AND role = 'live' FOR UPDATE;
        SELECT name, source INTO stem, of_source FROM semantic.semantic_index WHERE id = chosen.index_id;
        IF live.id IS NULL OR chosen.id IS NULL OR switched = 'live' THEN
            RAISE EXCEPTION 'generation % is no longer %: another session has changed it', generation_id, switched
            USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF EXISTS (SELECT FROM semantic.generation WHERE index_id = live.index_id AND role = becomes) THEN
            RAISE EXCEPTION 'semantic index % already has a % copy', stem, becomes
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format('Drop that copy first: pg-semantic generation drop %s %s.', stem, becomes);
        END IF;
        PERFORM semantic.require_columns_v1(of_source, chosen.spec, false);
        PERFORM semantic.rename_v1(relation, stem, stem || '__' || becomes)
        FROM unnest(ARRAY[live.chunks, live.receipts]) AS relation;
        PERFORM semantic.rename_v1(relation, stem || '__' || switched, stem)
        FROM unnest(ARRAY[chosen.chunks, chosen.receipts]) AS relation;
        UPDATE semantic.generation SET role = becomes, role_since = now() WHERE id = live.id;
        UPDATE semantic.generation SET role = 'live', role_since = now() WHERE id = chosen.id;
        PERFORM semantic.follow_rights_v1(chosen.index_id);
    END
    $body$
    """,
    # Takes back a copy that was begun, whether it is live by now or not. If it is, the copy before it is live again.
    # That may not be the one that this copy replaced, which may never have been live.
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
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(known_index, NULL));
        PERFORM semantic.switch_generation_v1(previous.id, 'previous')
        FROM semantic.generation AS previous
        JOIN semantic.generation AS live ON live.index_id = known_index AND live.role = 'live'
        WHERE previous.index_id = known_index AND previous.role = 'previous'
          AND semantic.recipe_v1(live.spec) = semantic.recipe_v1(target);
        PERFORM semantic.forget_generation_v1(id, true)
        FROM semantic.generation
        WHERE index_id = known_index AND role = 'next' AND semantic.recipe_v1(spec) = semantic.recipe_v1(target);
        IF EXISTS (
            SELECT FROM semantic.generation
            WHERE index_id = known_index AND role = 'live' AND semantic.recipe_v1(spec) <> semantic.recipe_v1(was)
        ) THEN
            IF NOT FOUND THEN
                RAISE EXCEPTION 'semantic index % cannot go back: the previous copy was dropped or has changed',
                    index_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Declare the index as you want it, and write a migration for that.';
            END IF;
            RAISE WARNING 'semantic index % is back at an older copy than the one that this change replaced',
                index_name
            USING HINT = 'To get the replaced copy back, begin it again.';
        END IF;
    END
    $body$
    """,
    # Called by statements before they join vectors with the table that they name: a table that took the name of another
    # one has other rows. A view may have the name of a table that was renamed.
    """
    CREATE FUNCTION semantic.require_source_v1(index_chunks regclass, named regclass) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known record;
    BEGIN
        SELECT semantic_index.id, semantic_index.name, source, spec INTO known
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.chunks = index_chunks;
        IF known.source <> named AND EXISTS (
            SELECT FROM pg_class
            WHERE oid = named AND (
                relkind IN ('r', 'p') OR NOT EXISTS (SELECT FROM pg_class AS source WHERE source.oid = known.source)
            )
        ) THEN
            RAISE EXCEPTION 'table % is not the one that semantic index % was created for', named, known.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format(
                'Move the index to it: pg-semantic index adopt %s.', known.name
            );
        ELSIF NOT semantic.is_key_v1(known.source, known.spec) THEN
            RAISE EXCEPTION 'semantic index % cannot be searched: %', known.name, semantic.source_trouble_v1(known.id)
            USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        RETURN true;
    END
    $body$
    """,
    # Called by a worker after it has read the table by name; its lock then keeps the name from changing. The error is
    # that of a locked table, so that the worker discards what it read and reads again under the new name.
    """
    CREATE FUNCTION semantic.require_named_v1(known_generation integer, named text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF EXISTS (
            SELECT FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            WHERE generation.id = known_generation AND source IS DISTINCT FROM to_regclass(named)
        ) THEN
            RAISE EXCEPTION 'table % was renamed a moment ago', named USING ERRCODE = 'lock_not_available';
        END IF;
    END
    $body$
    """,
    # Moves an index to another table with the same columns, such as one that replaced its own. Foreign keys move along,
    # triggers are dropped from the old table, and every row is compared. The caller creates the triggers.
    """
    CREATE FUNCTION semantic.adopt_v1(known_index integer, adopted regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known semantic.semantic_index;
        stale record;
    BEGIN
        SELECT * INTO known FROM semantic.semantic_index WHERE id = known_index FOR NO KEY UPDATE;
        PERFORM semantic.require_adoptable_v1(known_index, adopted);
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC adopted || ARRAY(
            SELECT CAST(oid AS regclass) FROM pg_class WHERE oid = known.source
        ));
        IF known.source <> adopted THEN
            FOR stale IN
                SELECT format('DROP TRIGGER %I ON %s', tgname, CAST(tgrelid AS regclass)) AS statement
                FROM pg_trigger
                JOIN pg_proc ON pg_proc.oid = tgfoid
                WHERE tgparentid = 0 AND proname IN (known.name || '_capture', known.name || '_capture_replica')
                  AND tgrelid IN (SELECT known.source UNION SELECT relid FROM pg_partition_tree(known.source))
                UNION ALL
                SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', CAST(conrelid AS regclass), conname)
                FROM semantic.generation
                JOIN pg_constraint ON conrelid IN (chunks, receipts)
                WHERE index_id = known_index AND contype = 'f' AND conparentid = 0
            LOOP
                EXECUTE stale.statement;
            END LOOP;
        END IF;
        DELETE FROM semantic.captured WHERE index_id = known_index;
        UPDATE semantic.semantic_index SET source = adopted WHERE id = known_index;
        UPDATE semantic.generation
        SET spec = jsonb_set(spec, '{table}', to_jsonb(relname))
        FROM pg_class
        WHERE index_id = known_index AND pg_class.oid = adopted;
        PERFORM semantic.restore_foreign_keys_v1(known_index);
        PERFORM semantic.restart_backfill_v1(known_index, format('it was moved to table %s', adopted), true);
    END
    $body$
    """,
    # Rejects a table that an index cannot be moved to, and says why.
    """
    CREATE FUNCTION semantic.require_adoptable_v1(known_index integer, adopted regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        problem text;
    BEGIN
        PERFORM semantic.require_columns_v1(adopted, spec, false) FROM semantic.generation WHERE index_id = known_index;
        SELECT CASE
            WHEN relation.relkind NOT IN ('r', 'p') THEN 'it is not a table'
            WHEN place.relnamespace <> relation.relnamespace THEN 'it is in another schema than the index'
            WHEN relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation.oid)
                THEN 'other tables inherit from it'
            WHEN EXISTS (
                SELECT FROM pg_attribute AS own
                LEFT JOIN pg_attribute AS other
                    ON other.attrelid = relation.oid AND other.attname = own.attname AND NOT other.attisdropped
                WHERE own.attrelid = generation.chunks AND own.attname IN (
                    SELECT part.value ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key') AS part (value)
                ) AND other.atttypid IS DISTINCT FROM own.atttypid
            ) THEN 'its key has other columns or types'
            WHEN NOT EXISTS (
                SELECT FROM pg_index
                WHERE indrelid = relation.oid AND indisprimary AND indisvalid AND indimmediate
                  AND indnkeyatts = jsonb_array_length(generation.spec -> 'key')
                  AND NOT EXISTS (
                      SELECT FROM unnest(indkey::int2[]) WITH ORDINALITY AS part (attnum, number)
                      LEFT JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = part.attnum
                      WHERE part.number <= indnkeyatts AND (attname IS NULL OR attname NOT IN (
                          SELECT value ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key')
                      ))
                  )
            ) THEN 'its primary key is not the key of the index'
        END INTO problem
        FROM semantic.generation
        JOIN pg_class AS place ON place.oid = generation.chunks
        JOIN pg_class AS relation ON relation.oid = adopted
        WHERE generation.index_id = known_index AND generation.role = 'live';
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION 'the index cannot be moved to table %: %', adopted, problem
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Change the table to match, or drop the index and create it again.';
        END IF;
    END
    $body$
    """,
    # Deletes the chunks and receipts of a partition's rows from every index of its table, so that the partition can be
    # detached and dropped.
    """
    CREATE FUNCTION semantic.release_partition(partition regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        held record;
    BEGIN
        FOR held IN
            SELECT part.relation,
                   semantic.equal_v1(semantic_index.source, generation.spec, 'held.', 'source.') AS same_key
            FROM semantic.semantic_index
            JOIN semantic.generation ON generation.index_id = semantic_index.id
            CROSS JOIN LATERAL (VALUES (generation.chunks), (generation.receipts)) AS part (relation)
            WHERE semantic_index.source IN (SELECT relid FROM pg_partition_ancestors(partition))
              AND semantic_index.source <> partition
        LOOP
            EXECUTE format(
                'DELETE FROM %s AS held USING %s AS source WHERE %s', held.relation, partition, held.same_key
            );
        END LOOP;
    END
    $body$
    """,
    # Called by statements before they compare a vector with those of a table.
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
        RAISE EXCEPTION '% has vectors of encoder % (% dimensions), but the query vector comes from % (% dimensions)',
            index_chunks, known.reference, known.dimensions, asked, asked_dimensions
        USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The index was switched to another encoder, or is declared with one that it does not have yet.';
    END
    $body$
    """,
)


def upgrade() -> None:
    for statement in (*COLUMNS, *FUNCTIONS):
        op.execute(statement)
    op.execute("SELECT semantic.expose_v1(id) FROM semantic.generation")


def downgrade() -> None:
    op.execute("""
        DO $body$
        BEGIN
            IF EXISTS (SELECT FROM semantic.generation WHERE role <> 'live') THEN
                RAISE EXCEPTION 'some semantic indexes have several generations'
                USING ERRCODE = 'dependent_objects_still_exist',
                    HINT = 'Drop those that are not live: pg-semantic generation drop.';
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
        "DROP FUNCTION semantic.release_partition, semantic.require_adoptable_v1, semantic.adopt_v1, "
        "semantic.require_named_v1, semantic.require_source_v1, "
        "semantic.require_encoder_v1, semantic.withdraw_generation_v1, semantic.switch_generation_v1, "
        "semantic.rename_v1, semantic.begin_generation_v1, semantic.prepare_generation_v1, semantic.watch_v1, "
        "semantic.same_key_v1, semantic.altered_key_v1, semantic.column_type_v1, "
        "semantic.captured_columns_v1, semantic.columns_v1, semantic.require_columns_v1, "
        "semantic.apart_v1, semantic.recipe_v1, semantic.drop_generation_v1, semantic.unregister_index_v2, "
        "semantic.forget_ghosts_v1, semantic.forget_generation_v1, semantic.lock_v1, semantic.register_index_v2, "
        "semantic.expose_v1, semantic.rights_said_v1, semantic.rights_kind_v1, semantic.follow_rights_v1, "
        "semantic.due_rights_v1, semantic.secure_v1, semantic.is_secured_v1, semantic.policy_mark_v1, "
        "semantic.policies_v1, semantic.parts_v1, semantic.readers_v1, semantic.sweep_v1, semantic.relations_v1, "
        "semantic.is_building_v1, semantic.lock_holders_v1, semantic.lock_once_v1, semantic.lock_seconds_v1, "
        "semantic.spec_v1, "
        "semantic.is_text_v1, semantic.text_v1(anyarray), semantic.text_v1(anynonarray)"
    )
    op.execute("DROP FUNCTION semantic.carry_rights_v1, semantic.carry_v1, semantic.carried_policies_v1")
    op.execute("ALTER TABLE semantic.generation DROP COLUMN role_since")
