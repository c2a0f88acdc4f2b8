// The sentences with which the machine gives its reasons, in English as it says them, and in Chinese.

export const REASONS = {
  "no model was chosen, so nothing was computed": "没有选定模型，因此没有进行任何计算",
  "echo is a test engine: it repeats the question and has no weights": "echo 是测试引擎：它只重复问题，没有权重",
  "the model is no longer on this machine; its digest is kept in the record": "该模型已不在本机；记录中保留着它的指纹",
  "the manifest cannot be trusted": "模型清单不可信",
  "the weights were made elsewhere; how they were trained is not recorded": "权重在别处制成，训练过程没有记录",
  "the signed manifest says how this model was made": "签名清单说明了模型是如何制成的",
  "the manifest's signature holds, and of its files every byte matches": "清单签名有效，文件逐字节相符",
  "the manifest's signature holds, and of its files size, header and sampled chunks match":
    "清单签名有效，文件的大小、文件头和抽样内容相符",
  "the answer is still being computed": "答案仍在计算中",
  "the record of the computation is not proved by the log": "日志不能证明这条计算记录",
  "the process ended before the answer was complete": "答案完成之前进程已经结束",
  "the closing record is proved by the log": "日志证明了这条结束记录",
  "the record of the decision is not proved by the log": "日志不能证明这条决定记录",
  "the decision was recorded before anything was computed": "决定在计算之前就已写入记录",
  "the decision was recorded before anything left this machine": "决定在任何内容离开本机之前就已写入记录",
  "the model is somewhere else; nothing is known here of its weights, and its digest is of its name only":
    "模型在别处；本机不知道它的权重，指纹只是其名称的指纹",
  "what left and came back is proved by the log; how the provider computed it is not known here":
    "日志证明了离开与返回的内容；提供者如何计算，本机无从得知",
  "the opening record is in the tree that this machine's key signed": "开头的记录在本机密钥签名的日志树中",
  "both records are in the tree that this machine's key signed": "两条记录都在本机密钥签名的日志树中",
};
