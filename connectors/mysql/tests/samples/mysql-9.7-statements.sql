SET binlog_format=STATEMENT;
CREATE TABLE stated (id INT AUTO_INCREMENT PRIMARY KEY, r DOUBLE, s VARCHAR(20), n BIGINT UNSIGNED, d DECIMAL(10,2));
SET @text = 'hello', @number = 42, @none = NULL, @real = 1.5, @decimal = CAST('12.34' AS DECIMAL(10,2)), @big = 18446744073709551615;
INSERT INTO stated (r, s, n) VALUES (RAND(), @text, @number);
INSERT INTO stated (r, s, d) VALUES (@real, @none, @decimal);
INSERT INTO stated (n) VALUES (@big);
INSERT INTO stated (n) VALUES (LAST_INSERT_ID());
