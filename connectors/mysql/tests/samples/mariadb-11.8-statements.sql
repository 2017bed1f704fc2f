SET binlog_format=STATEMENT;
CREATE TABLE stated (id INT AUTO_INCREMENT PRIMARY KEY, r DOUBLE, s VARCHAR(20), n BIGINT UNSIGNED, d DECIMAL(10,2));
SET @text = 'hello', @number = 42, @none = NULL, @real = 1.5, @decimal = CAST('12.34' AS DECIMAL(10,2));
INSERT INTO stated (r, s, n) VALUES (RAND(), @text, @number);
INSERT INTO stated (r, s, d) VALUES (@real, @none, @decimal);
SET binlog_format=ROW; SET binlog_annotate_row_events=ON; SET GLOBAL binlog_row_metadata=MINIMAL;
INSERT INTO stated (n) VALUES (7);
SET GLOBAL binlog_row_metadata=FULL;
