-- The tables of the wallet, in four databases, each with shard sets and a sharding key of its own. {schema} is a
-- database, {n} the number of the shard set in it.

-- -- the transaction flow, by user --------------------------------------------------------------------------------

CREATE TABLE {schema}.flow_{n} (
  id              BIGINT        NOT NULL,
  user_id         BIGINT        NOT NULL COMMENT 'the sharding key',
  user_account_id BIGINT        NOT NULL,
  peer_account_id BIGINT        NOT NULL COMMENT 'the channel, merchant, user or bank on the other side',
  kind            VARCHAR(16)   NOT NULL COMMENT 'TOPUP, PAY, TRANSFER, WITHDRAW',
  amount          DECIMAL(20,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  status          VARCHAR(16)   NOT NULL COMMENT 'RECEIVED, POSTED or REJECTED, then FILED, CLEARED or SETTLED, PAID',
  channel_ref     VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'what the other side calls it',
  voucher_id      BIGINT        NULL COMMENT 'by which it was posted',
  last_voucher_id BIGINT        NULL,
  batch_id        BIGINT        NULL COMMENT 'the clearing file or settlement batch that it is in',
  remark          VARCHAR(128)  NULL,
  created_at      DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY uk_channel_ref (channel_ref),
  KEY idx_user (user_id, created_at),
  KEY idx_status (status, kind)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='交易流水';

-- -- the accounts, by account -------------------------------------------------------------------------------------

CREATE TABLE {schema}.account_{n} (
  id              BIGINT        NOT NULL,
  owner_id        BIGINT        NOT NULL COMMENT 'the user, merchant or channel',
  kind            VARCHAR(16)   NOT NULL COMMENT 'CUSTOMER, MERCHANT, CHANNEL, PAYABLE, BANK, FEE, COST',
  subject         VARCHAR(32)   NOT NULL COMMENT '科目',
  nature          CHAR(1)       NOT NULL COMMENT 'D or C: what raises the balance',
  currency        CHAR(3)       NOT NULL,
  opening_balance DECIMAL(20,4) NOT NULL,
  balance         DECIMAL(20,4) NOT NULL,
  entry_seq       BIGINT        NOT NULL DEFAULT 0,
  created_at      DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_owner (owner_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='账户';

CREATE TABLE {schema}.entry_{n} (
  id              BIGINT        NOT NULL,
  account_id      BIGINT        NOT NULL COMMENT 'the sharding key',
  seq             BIGINT        NOT NULL COMMENT '1, 2, 3 .. within the account',
  voucher_id      BIGINT        NOT NULL,
  direction       CHAR(1)       NOT NULL COMMENT 'D or C',
  amount          DECIMAL(20,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  balance_before  DECIMAL(20,4) NOT NULL,
  balance_after   DECIMAL(20,4) NOT NULL,
  idempotency_key VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_account_seq (account_id, seq),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_voucher (voucher_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='分录';

CREATE TABLE {schema}.voucher_{n} (
  id               BIGINT        NOT NULL,
  debit_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  kind             VARCHAR(16)   NOT NULL COMMENT 'the flow',
  stage            VARCHAR(16)   NOT NULL COMMENT 'the status that it led to',
  flow_id          BIGINT        NOT NULL COMMENT 'what it was posted for; of a batch, its first',
  amount           DECIMAL(20,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  legs             TINYINT UNSIGNED NOT NULL,
  idempotency_key  VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  memo             VARCHAR(255)  NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_flow (flow_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='记账凭证';

-- -- what channels report, by channel -----------------------------------------------------------------------------

CREATE TABLE {schema}.clearing_file_{n} (
  id                 BIGINT        NOT NULL,
  channel_id         BIGINT        NOT NULL COMMENT 'the sharding key',
  channel_account_id BIGINT        NOT NULL,
  file_name          VARCHAR(64)   NOT NULL,
  items              INT           NOT NULL COMMENT 'as its trailer says',
  amount             DECIMAL(20,4) NOT NULL COMMENT 'as its trailer says',
  currency           CHAR(3)       NOT NULL,
  received_at        DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_file (file_name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='清算文件';

CREATE TABLE {schema}.clearing_item_{n} (
  id              BIGINT        NOT NULL,
  file_id         BIGINT        NOT NULL,
  channel_id      BIGINT        NOT NULL COMMENT 'the sharding key',
  channel_ref     VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  flow_id         BIGINT        NOT NULL COMMENT 'the flow that it was matched with',
  amount          DECIMAL(20,4) NOT NULL,
  fee             DECIMAL(20,4) NOT NULL COMMENT 'what the channel keeps',
  net             DECIMAL(20,4) NOT NULL COMMENT 'what it pays',
  currency        CHAR(3)       NOT NULL,
  status          VARCHAR(16)   NOT NULL COMMENT 'FILED, CLEARED (booked)',
  voucher_id      BIGINT        NULL COMMENT 'that books it',
  received_at     DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_file (file_id),
  KEY idx_ref (channel_ref),
  KEY idx_flow (flow_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='清算明细';

-- -- what merchants are paid, by merchant -------------------------------------------------------------------------

CREATE TABLE {schema}.settlement_{n} (
  id                  BIGINT        NOT NULL,
  merchant_id         BIGINT        NOT NULL COMMENT 'the sharding key',
  merchant_account_id BIGINT        NOT NULL,
  payable_account_id  BIGINT        NOT NULL,
  payments            INT           NOT NULL,
  amount              DECIMAL(20,4) NOT NULL,
  fee                 DECIMAL(20,4) NOT NULL,
  net                 DECIMAL(20,4) NOT NULL COMMENT 'what is paid out',
  currency            CHAR(3)       NOT NULL,
  status              VARCHAR(16)   NOT NULL COMMENT 'SETTLED, PAID',
  voucher_id          BIGINT        NOT NULL COMMENT 'by which the merchant was debited',
  last_voucher_id     BIGINT        NOT NULL,
  created_at          DATETIME(3)   NOT NULL,
  updated_at          TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_merchant (merchant_id, created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='结算批次';

CREATE TABLE {schema}.settlement_detail_{n} (
  id            BIGINT        NOT NULL,
  settlement_id BIGINT        NOT NULL,
  merchant_id   BIGINT        NOT NULL COMMENT 'the sharding key',
  flow_id       BIGINT        NOT NULL,
  amount        DECIMAL(20,4) NOT NULL,
  currency      CHAR(3)       NOT NULL,
  settled_at    DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  KEY idx_settlement (settlement_id),
  KEY idx_flow (flow_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='结算明细';

CREATE TABLE {schema}.payout_{n} (
  id            BIGINT        NOT NULL,
  settlement_id BIGINT        NOT NULL,
  merchant_id   BIGINT        NOT NULL COMMENT 'the sharding key',
  amount        DECIMAL(20,4) NOT NULL,
  currency      CHAR(3)       NOT NULL,
  bank_ref      VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  voucher_id    BIGINT        NOT NULL,
  paid_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_bank_ref (bank_ref),
  KEY idx_settlement (settlement_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='商户出款';
