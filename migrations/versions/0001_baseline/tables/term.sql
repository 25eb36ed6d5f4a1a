-- How many rows contain a lexeme. Lexemes of a single row are left out, which is half of the words of a language.
CREATE TABLE semantic.term (
    generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
    lexeme text COLLATE "C" NOT NULL,
    row_count bigint NOT NULL,
    PRIMARY KEY (generation_id, lexeme)
);
