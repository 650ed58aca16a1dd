"""Statements that change definitions, by what they show; each list starts in an empty database."""
# ruff: noqa: E501

from __future__ import annotations

T = "CREATE TABLE t (a INT NOT NULL, b VARCHAR(20) DEFAULT 'x', c DECIMAL(10,2), PRIMARY KEY (a), KEY kb (b))"
TWO = (T, "CREATE TABLE u (id BIGINT PRIMARY KEY)")

BOTH: dict[str, tuple[str, ...]] = {
    "integers": (
        "CREATE TABLE t (a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d INT, e BIGINT UNSIGNED, f INTEGER(5), "
        "g INT(6) ZEROFILL, h INT1, i INT2, j INT3, k INT4, l INT8, m BOOL, n BOOLEAN DEFAULT TRUE, o TINYINT(1), "
        "p TINYINT(1) UNSIGNED, q INT UNSIGNED ZEROFILL, r MIDDLEINT, s BIGINT(3) DEFAULT -007, "
        "u INT(5) ZEROFILL DEFAULT 42, v INT SIGNED)",
    ),
    "serial": ("CREATE TABLE t (id SERIAL, b INT)",),
    "serial_value": ("CREATE TABLE t (id INT SERIAL DEFAULT VALUE)",),
    "numbers": (
        "CREATE TABLE t (a DECIMAL, b DECIMAL(5), c DEC(20,4) UNSIGNED, d NUMERIC(65,30), e FIXED(7,3) ZEROFILL, "
        "f FLOAT, g FLOAT(10,2), h FLOAT(24), i FLOAT(25), j DOUBLE PRECISION, k REAL, l DOUBLE(12,4), "
        "m DECIMAL(10,2) NOT NULL DEFAULT 0, n DECIMAL(10,2) DEFAULT '1.5', o DECIMAL(10,3) DEFAULT -12.30, "
        "p FLOAT DEFAULT 1.5, q DOUBLE DEFAULT 100, r BIT, s BIT(9) DEFAULT b'101', t BIT(4) DEFAULT 5, "
        "u DOUBLE UNSIGNED, v INT DEFAULT 0x10)",
    ),
    "texts": (
        "CREATE TABLE t (a CHAR, b CHAR(5) DEFAULT 'ab ', c VARCHAR(10) DEFAULT '', d CHARACTER VARYING(7), "
        "e NCHAR(3), f NATIONAL VARCHAR(4), g TINYTEXT, h TEXT, i TEXT(100), j TEXT(20000), k MEDIUMTEXT, l LONGTEXT, "
        "m LONG VARCHAR, n VARCHAR(9) CHARACTER SET latin1, o VARCHAR(9) CHARSET utf8 COLLATE utf8_bin, "
        "p CHAR(3) BINARY, q VARCHAR(5) COLLATE latin1_general_cs, r VARCHAR(5) ASCII, s CHAR(2) CHARSET ucs2, "
        "u VARCHAR(5) CHARACTER SET binary, v TEXT CHARACTER SET binary, w VARCHAR(8) DEFAULT 12, "
        "x VARCHAR(20) DEFAULT 'a\\n\\'\\\\b\"''c\\%', y TEXT CHARACTER SET latin1, z VARCHAR(3) BYTE) CHARSET utf8mb4",
    ),
    "binaries": (
        "CREATE TABLE t (a BINARY, b BINARY(7), c VARBINARY(30), d TINYBLOB, e BLOB, f BLOB(300), g MEDIUMBLOB, "
        "h LONGBLOB, i LONG VARBINARY)",
    ),
    "members": (
        "CREATE TABLE t (a ENUM('x','y''z','q\\\\r','with, comma ','new\\nline') DEFAULT 'X', b SET('a','b','c') DEFAULT 'c,a', "
        "c ENUM('ä','ü') CHARACTER SET latin1 NOT NULL DEFAULT 'ü', d SET('1','2') NOT NULL DEFAULT '')",
    ),
    "times": (
        "CREATE TABLE t (a DATE DEFAULT '2020-01-02', b TIME, c TIME(3) DEFAULT '12:00:01.5', d DATETIME, "
        "e DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), f YEAR, g YEAR DEFAULT 2020, "
        "h DATETIME DEFAULT NOW() ON UPDATE NOW(), i DATETIME DEFAULT '2020-01-01', j DATETIME(3) DEFAULT "
        "'2020-01-01 10:11:12.13', k TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, "
        "l TIMESTAMP NULL, m TIMESTAMP(3) NULL DEFAULT NULL, n TIMESTAMP NOT NULL DEFAULT '0000-00-00 00:00:00', "
        "o TIMESTAMP(6) NOT NULL DEFAULT LOCALTIMESTAMP(6), p DATE DEFAULT '0000-00-00', q DATETIME DEFAULT 0)",
    ),
    "attributes": (
        "CREATE TABLE `odd ``name` (`a``b.c` INT NOT NULL AUTO_INCREMENT UNIQUE KEY COMMENT 'it''s \\\\ a', "
        "`中文` VARCHAR(10) NOT NULL UNIQUE, `order` INT NULL DEFAULT NULL, KEY (`order`, `中文`(3) DESC)) "
        "ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT CHARSET=latin1 COMMENT='tab ''le 中' ROW_FORMAT=DYNAMIC",
    ),
    "charsets": (
        "CREATE TABLE a (x VARCHAR(3), y VARCHAR(3) CHARSET utf8mb4) CHARSET utf8mb4 COLLATE utf8mb4_bin",
        "CREATE TABLE b (x VARCHAR(3), y VARCHAR(3) COLLATE utf8_bin) DEFAULT COLLATE=utf8_unicode_ci",
        "CREATE TABLE c (x VARCHAR(3), y VARCHAR(3) BINARY, z ENUM('a') BINARY) CHARACTER SET = latin1",
        "CREATE TABLE d (x VARCHAR(3))",
    ),
    "keys": (
        "CREATE TABLE t (a INT, b INT, c VARCHAR(50), d TEXT, e VARCHAR(10), f VARCHAR(12) CHARSET latin1, "
        "CONSTRAINT pk PRIMARY KEY USING BTREE (a, b), UNIQUE (c(10), e), CONSTRAINT uk UNIQUE KEY (e), UNIQUE INDEX "
        "named USING HASH (b), KEY (a), INDEX (a, b) COMMENT 'x', KEY a_4 (a), FULLTEXT KEY ft (c), KEY kd (d(20)), "
        "KEY whole (e(10)), KEY (f(5)) KEY_BLOCK_SIZE=4) ENGINE=InnoDB",
    ),
    "primary_not_null": ("CREATE TABLE t (a INT, b VARCHAR(5), c BINARY(3) NOT NULL, d INT PRIMARY KEY)",
                         "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (d, c)"),
    "names_of_keys": (
        "CREATE TABLE t (a INT, KEY (a), b INT UNIQUE, c INT UNIQUE, UNIQUE (a), KEY (b), d INT UNIQUE KEY, e BIT(1), KEY (d))",
        "ALTER TABLE t ADD KEY (a), ADD z INT UNIQUE, ADD KEY (z), ADD UNIQUE (a, b)",
    ),
    "like": (T, "CREATE TABLE u LIKE t", "CREATE TABLE IF NOT EXISTS v (LIKE t)", "CREATE TABLE IF NOT EXISTS v LIKE u"),
    "add_columns": (
        T,
        "ALTER TABLE t ADD COLUMN x INT",
        "ALTER TABLE t ADD y VARCHAR(5) NOT NULL DEFAULT 'y' FIRST, ADD COLUMN z INT AFTER a, ALGORITHM=INPLACE",
        "ALTER TABLE t ADD (p INT, q CHAR(3) NOT NULL, KEY kp (p))",
        "ALTER TABLE t ADD COLUMN r INT AFTER q, ADD s INT AFTER r, ADD u INT UNIQUE FIRST, ADD v INT FIRST",
    ),
    "change_columns": (
        T,
        "ALTER TABLE t MODIFY b VARCHAR(40) NOT NULL AFTER c",
        "ALTER TABLE t CHANGE COLUMN b bb VARCHAR(50) CHARACTER SET latin1 DEFAULT 'q' FIRST, MODIFY a BIGINT",
        "ALTER TABLE t CHANGE a A BIGINT AUTO_INCREMENT COMMENT 'up'",
        "ALTER TABLE t ALTER COLUMN c SET DEFAULT 5, ALTER bb DROP DEFAULT",
        "ALTER TABLE t MODIFY c DECIMAL(12,4) DEFAULT '0' AFTER bbb, CHANGE bb bbb CHAR(10)",
    ),
    "change_and_swap": (
        "CREATE TABLE t (a INT, b INT, c INT, d INT, KEY (a, b), UNIQUE KEY (b))",
        "ALTER TABLE t CHANGE a b INT, CHANGE b a INT",
        "ALTER TABLE t ADD COLUMN n INT AFTER d, DROP COLUMN c, MODIFY d BIGINT FIRST, CHANGE a z INT AFTER n",
        "ALTER TABLE t DROP n, ADD n VARCHAR(3) AFTER d",
    ),
    "drop_columns": (
        "CREATE TABLE t (a INT, b INT, c INT, d INT, KEY ab (a, b), UNIQUE KEY uc (c), KEY kd (d, a), PRIMARY KEY (d, b))",
        "ALTER TABLE t DROP COLUMN a",
        "ALTER TABLE t DROP c, DROP PRIMARY KEY, ADD PRIMARY KEY (d)",
    ),
    "indexes": (
        T,
        "CREATE INDEX i1 ON t (c, b(5))",
        "CREATE UNIQUE INDEX i2 USING BTREE ON t (c DESC) COMMENT 'x' ALGORITHM=INPLACE LOCK=NONE",
        "ALTER TABLE t ADD INDEX (b), ADD KEY (b(3)), ADD UNIQUE u (b, c), ADD FULLTEXT INDEX ft (b)",
        "DROP INDEX i1 ON t",
        "ALTER TABLE t DROP INDEX i2, DROP KEY b, ADD INDEX b (a, b)",
        "ALTER TABLE t DROP PRIMARY KEY, ADD CONSTRAINT PRIMARY KEY (a, c), ADD CONSTRAINT nn UNIQUE (c)",
        "ALTER TABLE t DISABLE KEYS",
    ),
    "modify_under_index": (
        "CREATE TABLE t (a VARCHAR(20), b TEXT, KEY (a(10)), KEY (b(15)))",
        "ALTER TABLE t MODIFY a VARCHAR(10), MODIFY b VARCHAR(100)",
    ),
    "convert": (
        "CREATE TABLE t (a VARCHAR(9), b TEXT, c TINYTEXT, d ENUM('a','b'), e INT, f VARBINARY(3), g MEDIUMTEXT, h CHAR(3) "
        "COLLATE latin1_bin) CHARSET latin1",
        "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
        "ALTER TABLE t CONVERT TO CHARACTER SET utf8 COLLATE utf8_unicode_ci",
    ),
    "options": (
        T,
        "ALTER TABLE t DEFAULT CHARACTER SET latin1, ADD x VARCHAR(3)",
        "ALTER TABLE t COMMENT 'new''s', ENGINE=InnoDB",
        "ALTER TABLE t COLLATE = utf8_bin COMMENT='two' AUTO_INCREMENT=5 STATS_PERSISTENT=0",
        "ALTER TABLE t FORCE", "ALTER TABLE t ROW_FORMAT=DYNAMIC, ALGORITHM=COPY, LOCK=SHARED", "ALTER TABLE t",
        "ALTER TABLE t ENGINE MyISAM", "ALTER TABLE t ORDER BY b, c DESC",
    ),
    "rename": (
        *TWO,
        "RENAME TABLE t TO x, u TO t, x TO u",
        "ALTER TABLE t RENAME TO v", "ALTER TABLE u ADD COLUMN n INT, RENAME AS t", "RENAME TABLE `t` TO `odd``t`",
        "ALTER TABLE `odd``t` RENAME = back",
    ),
    "drop_tables": (*TWO, "CREATE TABLE v (a INT)", "DROP TABLE t, u", "DROP TABLE IF EXISTS v, w CASCADE"),
    "truncate": (*TWO, "TRUNCATE TABLE t", "TRUNCATE u"),
    "foreign_keys": (
        "CREATE TABLE p (id INT PRIMARY KEY, x INT, UNIQUE KEY kx (x))",
        "CREATE TABLE c (id INT PRIMARY KEY, pid INT, qid INT, rid INT, KEY (rid), CONSTRAINT own FOREIGN KEY (qid) REFERENCES p "
        "(x) ON DELETE SET NULL ON UPDATE NO ACTION, FOREIGN KEY (rid) REFERENCES p (id), FOREIGN KEY (pid) "
        "REFERENCES p (id) ON DELETE CASCADE)",
        "ALTER TABLE c ADD COLUMN n INT, ADD FOREIGN KEY (n) REFERENCES p (id)",
        "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1, DROP FOREIGN KEY own",
        "ALTER TABLE c ADD m INT, ADD FOREIGN KEY (m) REFERENCES p (x)", "ALTER TABLE c RENAME TO d",
    ),
    "checks": (
        "CREATE TABLE t (a INT CHECK (a > 0), b INT, CONSTRAINT named CHECK (b > a), CHECK (b < 100))",
        "ALTER TABLE t ADD CHECK (a <> 5), ADD CONSTRAINT more CHECK (a <> 6)",
        "CREATE TABLE u LIKE t", "RENAME TABLE t TO w",
    ),
    "partitions": (
        "CREATE TABLE t (a INT PRIMARY KEY, b INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), "
        "PARTITION p1 VALUES LESS THAN (20))",
        "ALTER TABLE t ADD PARTITION (PARTITION p2 VALUES LESS THAN (30))",
        "ALTER TABLE t DROP PARTITION p0",
        "CREATE TABLE u (a INT) ENGINE=InnoDB /*!50100 PARTITION BY HASH (a) PARTITIONS 3 */",
        "ALTER TABLE u REMOVE PARTITIONING",
        "ALTER TABLE u ADD COLUMN c INT, ENGINE=InnoDB PARTITION BY KEY (a) PARTITIONS 2",
    ),
    "comments": (
        "/* ApplicationName=x */ CREATE /*!32302 TABLE */ t ( -- a column\n a INT /* int */, # hash\n"
        "b INT /*!99999 NOT NULL */ /*!50000 DEFAULT 3 */) /*!40100 DEFAULT CHARSET=latin1 */;",
        "ALTER /* q */ TABLE t/**/ADD c INT",
    ),
    "triggers": (
        T,
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.b = 'ON t2'",
        "CREATE DEFINER=`root`@`localhost` TRIGGER tr2 AFTER DELETE ON t FOR EACH ROW BEGIN SET @x = 1; END",
        "DROP TRIGGER tr", "DROP TRIGGER IF EXISTS nope",
    ),
    "database_default": (
        "ALTER DATABASE DEFAULT CHARACTER SET latin1 COLLATE latin1_bin",
        "CREATE TABLE t (a VARCHAR(3), b VARCHAR(3) CHARSET utf8)",
        "ALTER TABLE t ADD c CHAR(3)",
    ),
    "temporary": (
        T,
        "CREATE TEMPORARY TABLE tt (a INT)", "DROP TEMPORARY TABLE tt", "CREATE TEMPORARY TABLE t (z INT)",
    ),
    "timestamps_plain": (
        "CREATE TABLE t (a INT, ts TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, d DATETIME)",
        "ALTER TABLE t ADD COLUMN u TIMESTAMP NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP",
    ),
}  # fmt: skip

OLD_ONLY: dict[str, tuple[str, ...]] = {
    "first_timestamp": ("CREATE TABLE t (a INT, b TIMESTAMP, c TIMESTAMP, d TIMESTAMP NULL, e TIMESTAMP(3))",),
    "first_timestamp_null": ("CREATE TABLE t (a TIMESTAMP NULL, b TIMESTAMP)",),
    "first_timestamp_update": ("CREATE TABLE t (a TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, b TIMESTAMP)",),
    "first_timestamp_default": ("CREATE TABLE t (a TIMESTAMP DEFAULT CURRENT_TIMESTAMP, b TIMESTAMP(6) NOT NULL)",),
    "first_timestamp_fraction": ("CREATE TABLE t (a TIMESTAMP(3), b INT)",),
    "timestamp_added": ("CREATE TABLE t (a TIMESTAMP)", "ALTER TABLE t ADD b TIMESTAMP", "ALTER TABLE t MODIFY a TIMESTAMP"),
    "timestamp_altered": ("CREATE TABLE t (a TIMESTAMP NULL)", "ALTER TABLE t ADD b TIMESTAMP, CHANGE a a TIMESTAMP"),
    "nullable_primary": ("CREATE TABLE t (a INT, b VARCHAR(5), c DECIMAL(5,2), d DATETIME, e ENUM('x','y'), f BINARY(3), g DATE, h DOUBLE, i VARBINARY(3), PRIMARY KEY (a, b, c, d, e, f, g, h, i))",),
    "nullable_primary_altered": ("CREATE TABLE t (a INT, b INT)", "ALTER TABLE t ADD PRIMARY KEY (a)"),
    "year_4": ("CREATE TABLE t (a YEAR(4), b INT)",),
    "ignore": (T, "ALTER TABLE t ADD x INT", "ALTER IGNORE TABLE t ADD UNIQUE (x)"),
    "index_of_255": ("CREATE TABLE t (a VARCHAR(255), KEY (a)) CHARSET latin1",),
}  # fmt: skip

NEW_ONLY: dict[str, tuple[str, ...]] = {
    "select": (T, "CREATE TABLE s SELECT a, b, c + 1 AS d, NOW() AS n FROM t",
               "CREATE TABLE s2 (x INT PRIMARY KEY) SELECT a AS x FROM t"),
    "select_of_rows": (T, "INSERT INTO t VALUES (1, 'a', 2.5)", "CREATE TABLE s (KEY (a)) AS SELECT * FROM t"),
    "rename_parts": (
        T,
        "ALTER TABLE t RENAME COLUMN b TO bb, RENAME INDEX kb TO kbb",
        "ALTER TABLE t RENAME COLUMN bb TO c, RENAME COLUMN c TO bb, ADD d INT AFTER bb",
        "ALTER TABLE t RENAME KEY kbb TO kx, ALGORITHM=INPLACE", "ALTER TABLE t ALTER INDEX kx INVISIBLE",
    ),
    "invisible": (
        "CREATE TABLE t (a INT, b INT INVISIBLE, c INT DEFAULT 5 VISIBLE, KEY (b) INVISIBLE)",
        "ALTER TABLE t ADD d INT INVISIBLE AFTER a, ADD INDEX i (a) VISIBLE",
    ),
    "invisible_key": ("SET sql_generate_invisible_primary_key = ON", "CREATE TABLE t (a INT)", "ALTER TABLE t ADD b INT"),
    "json": ("CREATE TABLE t (a JSON, b JSON NOT NULL)", "ALTER TABLE t ADD j JSON AFTER a"),
    "expression_default": ("CREATE TABLE t (a VARCHAR(36) DEFAULT (UUID()), b INT)",),
    "expression_index": ("CREATE TABLE t (a INT, b INT)", "ALTER TABLE t ADD INDEX ((a + 1)), ADD KEY k2 (b, (a * 2) DESC)"),
    "drop_check": (
        "CREATE TABLE t (a INT, CONSTRAINT x CHECK (a > 1) NOT ENFORCED, UNIQUE KEY u (a), CHECK (a > 0) ENFORCED)",
        "ALTER TABLE t ALTER CHECK x ENFORCED, DROP CHECK t_chk_1", "ALTER TABLE t DROP CONSTRAINT x",
        "ALTER TABLE t DROP CONSTRAINT u",
    ),
    "long_index": ("CREATE TABLE t (a VARCHAR(768), KEY (a)) CHARSET utf8mb4",),
    "geometry": ("CREATE TABLE t (a INT PRIMARY KEY, b POINT, c GEOMETRY NOT NULL, d GEOMETRYCOLLECTION)",),
    "collations": ("CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_0900_as_cs, b VARCHAR(9) COLLATE utf8mb3_bin) CHARSET utf8mb3",),
    "default_charset": ("CREATE TABLE t (a VARCHAR(3), b CHAR(3) BINARY) CHARSET utf8mb4",),
    "instant": (T, "ALTER TABLE t ADD x INT, ALGORITHM=INSTANT", "ALTER TABLE t DROP COLUMN x, ALGORITHM=INSTANT"),
    "explicit_timestamps": ("CREATE TABLE t (a TIMESTAMP, b TIMESTAMP NOT NULL, c TIMESTAMP(3) NOT NULL DEFAULT NOW(3))",),
}  # fmt: skip
